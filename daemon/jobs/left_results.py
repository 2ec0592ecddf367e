"""Jobs whose results could not be put into the run file, and are tried once more."""

import sqlite3
from contextlib import suppress

from daemon.jobs import changes
from daemon.jobs.job import COMBINED, NOT_COMBINED, PENDING, Job, job_of

NOT_IN_FILE = "its results are not in the run file"
"""How the reason of such a job begins to say it."""

_LEFT = f"""SELECT j.*, EXISTS (
        SELECT 1 FROM jobs AS o WHERE o.proposal = j.proposal AND o.run = j.run
        AND o.position > j.position AND o.combined = {COMBINED} AND o.attempt > 0) AS replaced
    FROM jobs AS j WHERE j.combined = {NOT_COMBINED} AND instr(j.reason, ?) ORDER BY j.position"""


def left_results(connection: sqlite3.Connection) -> list[tuple[Job, bool]]:
    """Such jobs, in their order; and whether a later job of the run is in its file.

    What is older than that must not replace it. Rows that cannot be read are left out.
    """
    found = []
    for row in connection.execute(_LEFT, (NOT_IN_FILE,)).fetchall():
        with suppress(ValueError):
            found.append((job_of(row), bool(row["replaced"])))
    return found


def try_again(connection: sqlite3.Connection, job: Job, at: changes.Stamp) -> Job | None:
    """Have the results of `job` combined once more: it is as if it had just ended.

    None when somebody else has begun with that, or has requeued it, since `job` was read.
    """
    reason = job.reason.partition(NOT_IN_FILE)[0].removesuffix("; ")
    query = "UPDATE jobs SET combined = ?, reason = ? WHERE id = ? AND attempt = ? AND combined = ?"
    values = (PENDING, reason, job.id, job.attempt, NOT_COMBINED)
    if connection.execute(query, values).rowcount == 0:
        return None
    changes.note(connection, job, "its results are to be combined once more", at)
    return job_of(changes.row_of(connection, job.id))
