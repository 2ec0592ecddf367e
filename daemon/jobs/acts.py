"""What operators do to single jobs: requeue, stop, cancel, fail. Each act is one transaction.

An act holds for the attempt that is the present one at that moment, goes by the table of states as
everything does, and is in the history with who did it and why. `force` is for what may be meant,
but would be a pity if it was not; nothing makes two attempts of one job be under way at once.
"""

import json
import sqlite3
from collections.abc import Callable
from typing import TypeVar

from daemon.jobs import changes
from daemon.jobs.job import SUBMISSION, Job, job_of
from daemon.jobs.states import ACTIVE, TERMINAL, Refused, State, Who
from daemon.jobs.views import Views

T = TypeVar("T")


class Acts(Views):
    """The acts on one job each; `by` is who acts (user@host), `why` goes into the history.

    All return the job as it then is, and raise Refused with what to do instead, or UnknownJob.
    Whoever calls them sees to it that the processes of an attempt which they end are ended too.
    """

    async def requeue(self, job_id: str, *, by: str, why: str, force: bool = False) -> Job:
        """Queue a job that has ended for another attempt, which computes everything anew.

        A finished one needs `force`. One that is queued already stays as it is.
        """

        def act(connection: sqlite3.Connection, job: Job) -> None:
            if job.state is State.QUEUED:
                return
            _check_requeue(connection, job, force)
            self._move(connection, job, State.QUEUED, why, by)

        return await self._act(job_id, act)

    async def stop(self, job_id: str, *, by: str, why: str) -> Job:
        """Ask for the end of a job that is under way; one that only waits is canceled.

        One that was stopped stays as it is.
        """

        def act(connection: sqlite3.Connection, job: Job) -> None:
            if job.state is State.STOPPED:
                return
            _check_not_ended(job)
            to = State.STOP_REQUESTED if job.state in ACTIVE else State.CANCELED
            self._move(connection, job, to, why, by)

        return await self._act(job_id, act)

    async def cancel(self, job_id: str, *, by: str, why: str) -> Job:
        """Take back a job that has not begun."""

        def act(connection: sqlite3.Connection, job: Job) -> None:
            _check_not_ended(job, but=State.CANCELED)
            if job.state in (State.RUNNING, State.STOP_REQUESTED):
                raise Refused(f"job {job.id} is {job.state}: it can be stopped, not canceled")
            self._move(connection, job, State.CANCELED, why, by)

        return await self._act(job_id, act)

    async def fail(self, job_id: str, *, by: str, why: str, force: bool = False) -> Job:
        """Give up a job that is under way; one that only waits needs `force`."""

        def act(connection: sqlite3.Connection, job: Job) -> None:
            _check_not_ended(job, but=State.FAILED)
            if job.state not in (*ACTIVE, State.FAILED) and not force:
                raise Refused(
                    f"job {job.id} is {job.state}: cancel it, or use --force to have it failed"
                )
            self._move(connection, job, State.FAILED, why, by)

        return await self._act(job_id, act)

    def _move(self, connection: sqlite3.Connection, job: Job, to: State, why: str, by: str) -> None:
        changes.move(connection, job.id, job.attempt, to, Who.OPS, why, self._stamp(by))

    async def _act(self, job_id: str, act: Callable[[sqlite3.Connection, Job], None]) -> Job:
        def transaction(connection: sqlite3.Connection) -> Job:
            row = changes.row_of(connection, job_id)
            try:
                job = job_of(row)
            except ValueError as error:
                raise Refused(str(error)) from error
            act(connection, job)
            return job_of(changes.row_of(connection, job_id))

        return await self._db.write(transaction)


def _check_not_ended(job: Job, but: State | None = None) -> None:
    if job.state in TERMINAL and job.state is not but:
        raise Refused(f"job {job.id} has ended already: it is {job.state}")


def _check_requeue(connection: sqlite3.Connection, job: Job, force: bool) -> None:
    if job.state not in TERMINAL:
        raise Refused(f"job {job.id} is {job.state}: stop it first")
    if job.source == SUBMISSION:
        raise Refused(
            f"job {job.id} was submitted with its results and cannot be computed here: "
            "submit it again"
        )
    if job.state is State.FINISHED and not force:
        raise Refused(f"job {job.id} has finished: use --force to compute it once more")
    if not job.settled:
        raise Refused(
            f"what job {job.id} has left is just being put in order (its results, its place in a "
            "queue elsewhere): try again in a moment"
        )
    if gone := _inputs_gone(connection, job):
        raise Refused(
            f"job {job.id} needs results that are not kept any more, of {', '.join(gone)}: "
            f"requeue that, or reprocess run {job.run}"
        )


def _inputs_gone(connection: sqlite3.Connection, job: Job) -> list[str]:
    """The jobs whose fragments `job` takes something from, and which are cleaned or removed."""
    rows = connection.execute(
        """SELECT i.value AS id FROM json_each(?) AS i LEFT JOIN jobs AS j ON j.id = i.value
           WHERE j.id IS NULL OR j.cleaned = 1""",
        (json.dumps(job.inputs),),
    ).fetchall()
    return [row["id"] for row in rows]
