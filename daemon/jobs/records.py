"""What people are shown of jobs: rows of the queue as they are, those too that make no sense."""

import json
import math
import sqlite3
from collections.abc import Mapping
from typing import Any

from daemon.database import Database
from daemon.jobs import choice
from daemon.jobs.changes import UnknownJob, row_of
from daemon.jobs.job import job_of
from daemon.jobs.states import State

NUMBERS = frozenset(
    {
        *("position", "proposal", "run", "attempt", "first_attempt", "lost", "number", "combined"),
        *("not_before", "created", "started", "ended", "dispatched", "time", "cleaned"),
    }
)
TRUTHS = frozenset({"cluster", "mock", "live"})
LISTS = frozenset({"variables", "match", "inputs", "params", "command"})
FEW = 5
"""How many of several jobs are named when it is not clear which one is meant."""

Record = dict[str, Any]


class AmbiguousJob(LookupError):
    """What was given for an id is the beginning of several; str() names some."""


class Records:
    """Jobs by id and by age, with their attempts and their history, as JSON.

    A value that cannot be what its column is for is None, or its text; `problem` of a job says
    that its row cannot be read, "" that it can.
    """

    def __init__(self, db: Database) -> None:
        """Read from `db`, whose migrations are `tables.MIGRATIONS`."""
        self._db = db

    async def find(self, text: str) -> str:
        """The id that `text` is, or that alone begins with it; raises UnknownJob, AmbiguousJob."""
        query = """SELECT id FROM jobs WHERE id = :text OR substr(id, 1, length(:text)) = :text
                   ORDER BY id = :text DESC, position DESC LIMIT :most"""
        values = {"text": text, "most": FEW + 1}
        rows = await self._db.read(lambda c: c.execute(query, values).fetchall())
        found = [str(row["id"]) for row in rows]
        if text == "" or not found:
            raise UnknownJob(f"there is no job {text!r}")
        if found[0] != text and len(found) > 1:
            some = ", ".join(found[:FEW]) + (" …" if len(found) > FEW else "")
            raise AmbiguousJob(f"several jobs begin with {text!r}: {some}")
        return found[0]

    async def recent(self, limit: int, state: State | None = None) -> list[Record]:
        """The newest `limit` jobs, of `state` if given, the newest first."""
        which = "" if state is None else "WHERE state = :state"
        values = {"limit": limit, "state": None if state is None else state.value}
        query = f"SELECT * FROM jobs {which} ORDER BY position DESC LIMIT :limit"
        return await self._db.read(lambda c: [_job(c, row) for row in c.execute(query, values)])

    async def job(self, job_id: str) -> Record:
        """A job with its `attempts`, its `history` and the ids of those that are `following`."""

        def read(connection: sqlite3.Connection) -> Record:
            def rows(query: str) -> list[Record]:
                return [_plain(row) for row in connection.execute(query, (job_id,))]

            return {
                **_job(connection, row_of(connection, job_id)),
                "attempts": rows("SELECT * FROM attempts WHERE job = ? ORDER BY number"),
                "history": rows("SELECT * FROM history WHERE job = ? ORDER BY id"),
                "following": [row["id"] for row in rows("SELECT id FROM jobs WHERE after = ?")],
            }

        return await self._db.read(read)


def _job(connection: sqlite3.Connection, row: sqlite3.Row) -> Record:
    waits = row["waiting_reason"]
    try:
        if job_of(row).state is State.QUEUED and not waits:
            waits = choice.before(connection, row["id"])
        problem = ""
    except ValueError as error:
        problem = str(error)
    return {**_plain(row), "waiting_reason": _value("waiting_reason", waits), "problem": problem}


def _plain(row: Mapping[str, Any] | sqlite3.Row) -> Record:
    return {name: _value(name, row[name]) for name in row.keys()}  # noqa: SIM118 - of a Row too


def _value(name: str, value: object) -> object:
    if name in NUMBERS:
        good = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
        return value if good else None
    if name in TRUTHS:
        return bool(value)
    if name in LISTS:
        return _json(value)
    if value is None or isinstance(value, str):
        return value
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _json(value: object) -> object:
    try:
        return json.loads(value) if isinstance(value, str) else None
    except (ValueError, RecursionError):
        return None
