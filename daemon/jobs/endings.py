"""What is kept of jobs that have ended: whether their results are where they belong."""

import sqlite3
from collections.abc import Callable, Collection
from dataclasses import replace

from daemon.jobs import changes, choice
from daemon.jobs.acts import Acts
from daemon.jobs.job import COMBINED, LOCAL, NOT_COMBINED, PENDING, SEQUENTIAL, Job, work_of
from daemon.jobs.states import TERMINAL
from daemon.jobs.views import listed

AT_ONCE = 25
"""Jobs whose fragments go in one transaction: others wait for it."""


class Endings(Acts):
    """Jobs that have ended, on the way of their results into the run files."""

    async def set_combined(
        self, job: Job, trouble: str = "", again: Collection[str] = ()
    ) -> Job | None:
        """The results are in the run file, or `trouble` says why they cannot be put there.

        The variables `again` have to be computed once more; returns the job for that, which is
        queued in the same transaction. To say it again, or of an old attempt, changes nothing.
        """
        query = """UPDATE jobs SET combined = ?,
                       reason = CASE WHEN reason = '' THEN ? WHEN ? = '' THEN reason
                                ELSE reason || '; ' || ? END
                   WHERE id = ? AND attempt = ? AND combined != ?"""
        outcome = (NOT_COMBINED if trouble else COMBINED, trouble, trouble, trouble)
        values = (*outcome, job.id, job.attempt, COMBINED)
        at = self._stamp()
        # The command that ran the job, if one did, need not wait for this.
        backend = LOCAL if job.backend == SEQUENTIAL else job.backend
        left = replace(work_of(job), variables=tuple(again), match=())
        work = replace(left, backend=backend, after=job.id)

        def set_combined(connection: sqlite3.Connection) -> Job | None:
            news = connection.execute(query, values).rowcount
            if not (again and news):
                return None
            return changes.insert(connection, work, following_id(job, "again"), at)

        return await self._db.write(set_combined)

    async def to_combine(self) -> list[Job]:
        """Ended jobs whose results are not yet in the run file, in the order of their ends."""
        ended = listed(TERMINAL)
        query = f"""SELECT * FROM jobs WHERE combined = {PENDING} AND attempt >= first_attempt
                    AND state IN {ended} ORDER BY ended, position"""
        return self._readable(await self._rows(query))

    async def clean(self, remove: Callable[[Job], bool], after: int = 0) -> int | None:
        """Have `remove` take away the fragments of some jobs that nobody needs any more.

        It does so in the transaction that notes which are gone, so that no job that needs them can
        be queued meanwhile. Returns the place of the last job, to go on after; None at the end.
        """

        now = self._now()

        def clean(connection: sqlite3.Connection) -> int | None:
            rows = choice.cleanable(connection, after, AT_ONCE, now=now)
            gone = [(job.id,) for job in self._readable(rows) if remove(job)]
            connection.executemany("UPDATE jobs SET cleaned = 1 WHERE id = ?", gone)
            return int(rows[-1]["position"]) if rows else None

        return await self._db.write(clean)


def following_id(job: Job, what: str) -> str:
    """The id of the job that follows `job` for `what`; another one each time it was requeued."""
    again = "" if job.first_attempt == 1 else f"-{job.first_attempt}"
    return f"{job.id}{again}-{what}"
