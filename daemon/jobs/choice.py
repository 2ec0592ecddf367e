"""Which job is next, which one absorbs an event, whose fragments may go: the queue's choices."""

import sqlite3
from collections.abc import Collection

from daemon.jobs.changes import UNFINISHED
from daemon.jobs.job import COMBINED, PENDING, Job, Work, job_of

LONGEST_PAUSE = 60.0
"""Seconds that a job pauses at most; what is further ahead is of a clock that has stepped back."""
REQUEUED_WITHIN = 7 * 86400.0
"""Seconds that what a job takes from others is kept, when it has failed or was ended."""

_IN_THE_WAY = """o.proposal = j.proposal AND o.run = j.run AND o.id != j.id
        AND (o.data = j.data OR 'all' IN (o.data, j.data))
        AND (o.state IN ('dispatched', 'running', 'stop_requested')
             OR (o.state = 'queued' AND o.position < j.position))
        AND o.command IS NULL
        AND NOT (j.part != '' AND o.part != '' AND j.after IS o.after)"""
"""Of a job j that computes variables: the jobs o for the same results that go before it."""

_FREE = f"""state = 'queued' AND (not_before <= :now OR not_before > :now + {LONGEST_PAUSE})
    AND NOT EXISTS (SELECT 1 FROM jobs AS b
        WHERE b.id = j.after AND b.state IN {UNFINISHED})
    AND (j.inputs = '[]' OR NOT EXISTS (SELECT 1 FROM jobs AS b,
            json_each(CASE WHEN json_valid(j.inputs) THEN j.inputs ELSE '[]' END) AS i
        WHERE b.id = i.value AND b.state IN {UNFINISHED}))
    AND (j.command IS NOT NULL OR NOT EXISTS (
        SELECT 1 FROM jobs AS o WHERE {_IN_THE_WAY}))"""
"""Jobs that may start: never two of the same run and data at once, and those in their order, so
that what was computed from older data cannot replace what is newer. The parts of one run that do
not need each other run beside each other."""

_NEXT = (
    f"SELECT * FROM jobs AS j WHERE backend = :backend AND live = 1 AND {_FREE}"
    " ORDER BY position DESC LIMIT 1",
    f"SELECT * FROM jobs AS j WHERE backend = :backend AND live = 0 AND {_FREE}"
    " ORDER BY position LIMIT 1",
)

_BACKENDS = """WITH RECURSIVE found (backend) AS (
        SELECT min(backend) FROM jobs INDEXED BY queued_by_backend WHERE state = 'queued'
        UNION ALL
        SELECT (SELECT min(backend) FROM jobs INDEXED BY queued_by_backend
                WHERE state = 'queued' AND backend > found.backend)
        FROM found WHERE found.backend IS NOT NULL)
    SELECT backend FROM found WHERE backend IS NOT NULL"""
"""The backends of queued jobs; it takes as many steps as there are backends, not jobs."""

_NEEDED = f"""SELECT 1 FROM jobs AS f,
        json_each(CASE WHEN json_valid(f.inputs) THEN f.inputs ELSE '[]' END) AS i
    WHERE f.proposal = j.proposal AND f.run = j.run AND i.value = j.id
    AND (f.state IN {UNFINISHED} OR (f.combined = {PENDING} AND f.attempt >= f.first_attempt)
         OR (f.state != 'finished' AND f.ended > :since AND NOT EXISTS (
             SELECT 1 FROM jobs AS n WHERE n.proposal = f.proposal AND n.run = f.run
             AND n.data = f.data AND n.part = f.part AND n.position > f.position)))"""
"""Jobs that still take something from the fragments of job j, or would when they are requeued:
those that have come to nothing since then, and whose place no other one has taken."""


_BEFORE = f"""SELECT o.id, o.state FROM jobs AS j JOIN jobs AS o ON o.id = j.after
    WHERE j.id = :id AND o.state IN {UNFINISHED}
    UNION ALL SELECT o.id, o.state FROM jobs AS j JOIN jobs AS o ON {_IN_THE_WAY}
    WHERE j.id = :id AND j.command IS NULL LIMIT 1"""
"""A job that has to end before job j."""


def before(connection: sqlite3.Connection, job_id: str) -> str:
    """Which job has to end before a queued one begins, in words; "" when none has to."""
    row = connection.execute(_BEFORE, {"id": job_id}).fetchone()
    return "" if row is None else f"waits for job {row['id']}, which is {row['state']}"


def backends(connection: sqlite3.Connection) -> list[str]:
    """The backends that queued jobs are for."""
    return [row["backend"] for row in connection.execute(_BACKENDS)]


def next_row(
    connection: sqlite3.Connection, now: float, among: Collection[str] | None = None
) -> sqlite3.Row | None:
    """The row of the job that starts next: live ones first, the newest of them; then in order.

    It is one for a backend in `among`, if given.
    """
    among = backends(connection) if among is None else among
    for query, first in zip(_NEXT, (max, min), strict=True):
        rows = [
            row
            for backend in among
            if (row := connection.execute(query, {"now": now, "backend": backend}).fetchone())
        ]
        if rows:
            found: sqlite3.Row = first(rows, key=lambda row: row["position"])
            return found
    return None


def absorbing(connection: sqlite3.Connection, work: Work) -> Job | None:
    """The queued job that does what `work` asks for, and has not been tried yet."""
    row = connection.execute(
        """SELECT * FROM jobs AS j
           WHERE proposal = ? AND run = ? AND data = ? AND state = 'queued' AND variables IS NULL
           AND match = '[]' AND inputs = '[]' AND part = ? AND mock = 0 AND after IS NULL
           AND backend = ? AND params = '{}' AND command IS NULL
           AND NOT EXISTS (SELECT 1 FROM attempts WHERE job = j.id)
           ORDER BY position DESC LIMIT 1""",
        (work.proposal, work.run, work.data, work.part, work.backend),
    ).fetchone()
    try:
        return None if row is None else job_of(row)
    except ValueError:
        return None  # it will be canceled when its turn comes


def cleanable(
    connection: sqlite3.Connection, after: int, limit: int, *, now: float
) -> list[sqlite3.Row]:
    """The rows of jobs whose results are in the run file and whose fragments nobody needs.

    They are the first `limit` that come after the position `after`; `now` is a Unix time.
    """
    return connection.execute(
        f"""SELECT * FROM jobs AS j
            WHERE combined = {COMBINED} AND cleaned = 0 AND position > :after
            AND NOT EXISTS ({_NEEDED}) ORDER BY position LIMIT :limit""",
        {"after": after, "limit": limit, "since": now - REQUEUED_WITHIN},
    ).fetchall()
