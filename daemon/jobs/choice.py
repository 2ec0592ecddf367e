"""Which job is next, which one absorbs an event, whose fragments may go: the queue's choices."""

import sqlite3

from daemon.jobs.changes import UNFINISHED
from daemon.jobs.job import COMBINED, PENDING, Job, Work, job_of

_FREE = f"""state = 'queued' AND not_before <= :now
    AND NOT EXISTS (SELECT 1 FROM jobs AS b
        WHERE b.id = j.after AND b.state IN {UNFINISHED})
    AND NOT EXISTS (
        SELECT 1 FROM jobs AS o WHERE o.proposal = j.proposal AND o.run = j.run AND o.id != j.id
        AND (o.data = j.data OR 'all' IN (o.data, j.data))
        AND (o.state IN ('dispatched', 'running', 'stop_requested')
             OR (o.state = 'queued' AND o.position < j.position)))"""
"""Jobs that may start: never two of the same run and data at once, and those in their order, so
that what was computed from older data cannot replace what is newer."""

_NEXT = (
    f"SELECT * FROM jobs AS j WHERE live = 1 AND {_FREE} ORDER BY position DESC LIMIT 1",
    f"SELECT * FROM jobs AS j WHERE live = 0 AND {_FREE} ORDER BY position LIMIT 1",
)

_NEEDED = f"""SELECT 1 FROM jobs AS f,
        json_each(CASE WHEN json_valid(f.inputs) THEN f.inputs ELSE '[]' END) AS i
    WHERE f.proposal = j.proposal AND f.run = j.run AND i.value = j.id
    AND (f.state IN {UNFINISHED} OR (f.combined = {PENDING} AND f.attempt >= f.first_attempt))"""
"""Jobs that still take something from the fragments of job j."""


def next_row(connection: sqlite3.Connection, now: float) -> sqlite3.Row | None:
    """The row of the job that starts next: live ones first, the newest of them; then in order."""
    for query in _NEXT:
        row: sqlite3.Row | None = connection.execute(query, {"now": now}).fetchone()
        if row is not None:
            return row
    return None


def absorbing(connection: sqlite3.Connection, work: Work) -> Job | None:
    """The queued job that does what `work` asks for, and has not been tried yet."""
    row = connection.execute(
        """SELECT * FROM jobs AS j
           WHERE proposal = ? AND run = ? AND data = ? AND state = 'queued' AND variables IS NULL
           AND match = '[]' AND inputs = '[]' AND cluster = 0 AND mock = 0 AND after IS NULL
           AND backend = 'local' AND params = '{}'
           AND NOT EXISTS (SELECT 1 FROM attempts WHERE job = j.id)
           ORDER BY position DESC LIMIT 1""",
        (work.proposal, work.run, work.data),
    ).fetchone()
    try:
        return None if row is None else job_of(row)
    except ValueError:
        return None  # it will be canceled when its turn comes


def cleanable(connection: sqlite3.Connection) -> list[sqlite3.Row]:
    """The rows of jobs whose results are in the run file and whose fragments nobody needs."""
    return connection.execute(
        f"""SELECT * FROM jobs AS j WHERE combined = {COMBINED} AND cleaned = 0
            AND NOT EXISTS ({_NEEDED}) ORDER BY position LIMIT 1000"""
    ).fetchall()
