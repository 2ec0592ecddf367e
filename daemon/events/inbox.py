"""The inbox: events are stored durably here before their source is told so, each only once.

Events of the filesystem are compared with the last one of the same run and data: a folder that
goes back to an earlier state has changed. All other events are known by their key, for as long as
`daemon.jobs.housekeeping` keeps them.
"""

import asyncio
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from daemon.database import Database
from daemon.events import MigrationEvent
from daemon.events.letters import Letters, take_letter, writable

FILESYSTEM = "filesystem"
BATCH = 500
"""How many events are stored in one transaction."""

EVENT_TABLES = """
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    source TEXT NOT NULL,
    proposal INTEGER NOT NULL,
    run INTEGER NOT NULL,
    data TEXT NOT NULL CHECK (data IN ('raw', 'proc')),
    key TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'done', 'seen')),
    job TEXT
);
CREATE UNIQUE INDEX one_delivery ON events (key, proposal, run, data)
    WHERE source != 'filesystem';
CREATE INDEX latest_event ON events (proposal, run, data, source, id);
CREATE INDEX pending_events ON events (id) WHERE state = 'pending';
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    source TEXT NOT NULL,
    payload TEXT NOT NULL,
    error TEXT NOT NULL
);
"""


@dataclass(frozen=True)
class StoredEvent:
    """An event with the id by which the inbox knows it."""

    id: int
    event: MigrationEvent


class Inbox(Letters):
    """Events that wait to be jobs, those that were, and messages that could not be read."""

    def __init__(self, db: Database) -> None:
        """Keep everything in `db`, whose migrations include EVENT_TABLES, LETTERS_BY_NUMBER."""
        super().__init__(db)
        self._stored = asyncio.Event()
        self._waiting: list[tuple[MigrationEvent, asyncio.Future[bool]]] = []
        self._storing: asyncio.Task[None] | None = None

    async def store(self, event: MigrationEvent) -> bool:
        """Store `event`; when this returns it is on disk. False when it was there already.

        What is to be stored at the same time goes to disk together.
        """
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((event, stored))
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store_waiting())
        return await stored

    async def _store_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            if not await self._store_batch(batch) and len(batch) > 1:
                for each in batch:  # what hinders one of them need not hinder all
                    await self._store_batch([each], last=True)

    async def _store_batch(
        self, batch: list[tuple[MigrationEvent, asyncio.Future[bool]]], *, last: bool = False
    ) -> bool:
        """Store a batch, whose senders are told; False when it cannot be, and may be in parts."""
        events = [event for event, _ in batch]
        try:
            news = await self._db.write(lambda c: [_insert(c, each, "pending") for each in events])
        except Exception as error:  # noqa: BLE001 - it is the senders'
            if last or len(batch) == 1:
                for _, stored in batch:
                    if not stored.done():
                        stored.set_exception(error)
            return False
        for (_, stored), is_new in zip(batch, news, strict=True):
            if not stored.done():
                stored.set_result(is_new)
        if any(news):
            self._stored.set()
        return True

    async def mark_seen(self, events: Iterable[MigrationEvent]) -> int:
        """Remember `events` as seen, so that they never become jobs; how many were new."""
        seen = list(events)
        return await self._db.write(
            lambda connection: sum(_insert(connection, event, "seen") for event in seen)
        )

    async def pending(self) -> list[StoredEvent]:
        """Events that are no jobs yet, in the order in which they came."""
        query = "SELECT * FROM events WHERE state = 'pending' ORDER BY id"
        rows = await self._db.read(lambda connection: connection.execute(query).fetchall())
        return [StoredEvent(row["id"], MigrationEvent.of(row)) for row in rows]

    async def wait(self, timeout: float) -> None:
        """Return as soon as an event is stored after the last call, or after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._stored.wait()
        except TimeoutError:
            return
        self._stored.clear()

    async def last_keys(self, proposal: int) -> dict[tuple[str, int], str]:
        """The key of the last filesystem event of every (data, run) of `proposal`."""
        query = """SELECT data, run, key FROM events WHERE id IN (
                       SELECT max(id) FROM events WHERE proposal = ? AND source = ?
                       GROUP BY run, data)"""
        rows = await self._db.read(
            lambda connection: connection.execute(query, (proposal, FILESYSTEM)).fetchall()
        )
        return {(row["data"], row["run"]): row["key"] for row in rows}

    async def recent(self, limit: int) -> list[dict[str, Any]]:
        """The last `limit` events: id, time, source, proposal, run, data, key, state, job.

        A state is pending, done (`job` has taken it up) or seen (was there before `init`).
        """
        query = "SELECT * FROM events ORDER BY id DESC LIMIT ?"
        rows = await self._db.read(lambda c: c.execute(query, (limit,)).fetchall())
        return [dict(row) for row in reversed(rows)]

    async def put_back(self, letter: int, event: MigrationEvent) -> bool:
        """A dead letter turned out to be `event`; False when that was known, or put back before."""

        def put_back(connection: sqlite3.Connection) -> bool:
            return take_letter(connection, letter) and _insert(connection, event, "pending")

        stored = await self._db.write(put_back)
        if stored:
            self._stored.set()
        return stored


def job_of_event(connection: sqlite3.Connection, event_id: int) -> str | None:
    """Within a transaction of the caller: the job that has taken an event up already."""
    row = connection.execute(
        "SELECT job FROM events WHERE id = ? AND state = 'done'", (event_id,)
    ).fetchone()
    return None if row is None else row["job"]


def mark_done(connection: sqlite3.Connection, ids: Iterable[int], job: str) -> None:
    """Within a transaction of the caller: `job` has taken these events up."""
    connection.executemany(
        "UPDATE events SET state = 'done', job = ? WHERE id = ?", [(job, id_) for id_ in ids]
    )


def _insert(connection: sqlite3.Connection, event: MigrationEvent, state: str) -> bool:
    values = {**asdict(event), "key": writable(event.key), "state": state}
    if event.source == FILESYSTEM and _last_key(connection, event) == values["key"]:
        return False
    cursor = connection.execute(
        """INSERT INTO events (time, source, proposal, run, data, key, state)
           VALUES (:time, :source, :proposal, :run, :data, :key, :state)
           ON CONFLICT DO NOTHING""",
        values,
    )
    return cursor.rowcount == 1


def _last_key(connection: sqlite3.Connection, event: MigrationEvent) -> str | None:
    row = connection.execute(
        """SELECT key FROM events WHERE proposal = ? AND run = ? AND data = ? AND source = ?
           ORDER BY id DESC LIMIT 1""",
        (event.proposal, event.run, event.data, event.source),
    ).fetchone()
    return None if row is None else str(row["key"])
