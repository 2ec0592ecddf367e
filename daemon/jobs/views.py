"""Looking at the queue: jobs by id, by state and by age, and what happened to them."""

import json
import logging
import sqlite3
from collections.abc import Callable, Collection
from typing import Any

from daemon.database import Database
from daemon.jobs import changes
from daemon.jobs.job import Job, job_of
from daemon.jobs.states import ACTIVE, State


class Views:
    """What can be read of the queue. A row that cannot be read is left out of lists, and logged."""

    def __init__(
        self, db: Database, *, log: logging.Logger, now: Callable[[], float], by: str
    ) -> None:
        """Read from `db`; `now` gives seconds since the epoch, `by` is who this process is."""
        self._db = db
        self._log = log
        self._now = now
        self._by = by

    async def next_due(self) -> float | None:
        """The earliest time at which a queued job may start, by its own pause; None: no jobs."""
        # Left to itself SQLite takes the index of all states, and reads the whole queue.
        query = "SELECT min(not_before) AS due FROM jobs INDEXED BY due_jobs WHERE state = 'queued'"
        (row,) = await self._rows(query)
        return None if row["due"] is None else float(row["due"])

    async def get(self, job_id: str) -> Job:
        """The job with this id; raises UnknownJob."""
        return job_of(await self._db.read(lambda c: changes.row_of(c, job_id)))

    async def with_following(self, ids: Collection[str]) -> list[Job]:
        """The jobs with these ids and all that follow from them, the oldest first."""
        query = """WITH RECURSIVE mine (id) AS (
                       SELECT value FROM json_each(?)
                       UNION SELECT j.id FROM mine JOIN jobs AS j ON j.after = mine.id)
                   SELECT * FROM jobs WHERE id IN (SELECT id FROM mine) ORDER BY position"""
        return self._readable(await self._rows(query, json.dumps(list(ids))))

    async def recent(self, limit: int, state: State | None = None) -> list[Job]:
        """The newest `limit` jobs, of `state` if given, the newest first."""
        which = "" if state is None else "WHERE state = ?"
        values = (limit,) if state is None else (state.value, limit)
        query = f"SELECT * FROM jobs {which} ORDER BY position DESC LIMIT ?"
        return self._readable(await self._rows(query, *values))

    async def in_states(self, states: Collection[State]) -> list[Job]:
        """All jobs in one of `states`, the oldest first."""
        query = f"SELECT * FROM jobs WHERE state IN {listed(states)} ORDER BY position"
        return self._readable(await self._rows(query))

    async def active(self) -> list[Job]:
        """Jobs that a manager has been given."""
        return await self.in_states(ACTIVE)

    async def live_dispatched(self) -> list[str]:
        """The ids of live jobs that wait with a manager, the newest first; at most a hundred."""
        query = """SELECT id FROM jobs WHERE state = 'dispatched' AND live = 1
                   ORDER BY position DESC LIMIT 100"""
        return [str(row["id"]) for row in await self._rows(query)]

    async def counts(self) -> dict[str, int]:
        """How many jobs there are in each state that has any."""
        rows = await self._rows("SELECT state, count(*) AS n FROM jobs GROUP BY state")
        return {_text(row["state"]): row["n"] for row in rows}

    async def ids(self) -> set[str]:
        """The ids of all jobs."""
        return {_text(row["id"]) for row in await self._rows("SELECT id FROM jobs")}

    async def history(self, job_id: str) -> list[dict[str, Any]]:
        """What happened to a job: time, attempt, was, became, who, why; the oldest first."""
        query = "SELECT * FROM history WHERE job = ? ORDER BY id"
        return [dict(row) for row in await self._rows(query, job_id)]

    def _stamp(self, by: str | None = None) -> changes.Stamp:
        return changes.Stamp(self._now(), self._by if by is None else by)

    async def _rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        return await self._db.read(lambda connection: connection.execute(query, values).fetchall())

    def _readable(self, rows: list[sqlite3.Row]) -> list[Job]:
        jobs = []
        for row in rows:
            try:
                jobs.append(job_of(row))
            except ValueError as error:
                self._log.error("%s; left out", error)
        return jobs


def _text(value: object) -> str:
    """What should be a text; a row that somebody spoilt may have anything."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def listed(states: Collection[State]) -> str:
    """`states` as a list in SQL."""
    return "(" + ", ".join(f"'{state.value}'" for state in sorted(states)) + ")"
