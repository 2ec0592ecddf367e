"""The events of a listener, each with the databases that it is still to be handed to.

An event is on disk, together with what is to be done with it, before its source is told so.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from daemon.events import MigrationEvent
from daemon.events.letters import (
    LETTERS_BY_NUMBER,
    OLD_LETTERS,
    Letters,
    take_letter,
    writable,
)

NAME = "listener-events.sqlite"

MIGRATIONS = (
    """
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    source TEXT NOT NULL,
    proposal INTEGER NOT NULL,
    run INTEGER NOT NULL,
    data TEXT NOT NULL CHECK (data IN ('raw', 'proc')),
    key TEXT NOT NULL,
    UNIQUE (key, proposal, run, data)
);
CREATE TABLE deliveries (
    event INTEGER NOT NULL REFERENCES events (id),
    database TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'done', 'refused')),
    error TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (event, database)
);
CREATE INDEX waiting_deliveries ON deliveries (database, event) WHERE state = 'waiting';
CREATE INDEX refused_deliveries ON deliveries (database, event) WHERE state = 'refused';
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    source TEXT NOT NULL,
    payload TEXT NOT NULL,
    error TEXT NOT NULL
);
""",
    LETTERS_BY_NUMBER,
)
AT_ONCE = 500
"""Rows of each kind that one transaction removes, so that it is short."""
_OLD_EVENTS = """SELECT e.id FROM events AS e WHERE e.time < :before
    AND NOT EXISTS (SELECT 1 FROM deliveries WHERE event = e.id AND state = 'waiting')
    AND EXISTS (SELECT 1 FROM events AS o WHERE o.proposal = e.proposal AND o.run = e.run
                AND o.data = e.data AND o.source = e.source AND o.id > e.id)"""


@dataclass(frozen=True)
class Delivery:
    """An event that waits to be handed to a database."""

    id: int
    event: MigrationEvent


class Deliveries(Letters):
    """What has come and where it has got to; it is all in a database that has MIGRATIONS."""

    async def store(
        self, event: MigrationEvent, databases: Sequence[str], letter: int | None = None
    ) -> bool:
        """Store `event`, to be handed to `databases`; False when it was there already.

        The dead letter with the number `letter`, which it was, is one no more; when there is none
        of that number, somebody else has put it back.
        """

        def put(connection: sqlite3.Connection) -> bool:
            if letter is not None and not take_letter(connection, letter):
                return False
            return _insert(connection, event, databases)

        return await self._db.write(put)

    async def waiting(self, database: str, limit: int = 100) -> list[Delivery]:
        """The first events that `database` has not got yet, in the order in which they came."""
        query = """SELECT events.* FROM deliveries JOIN events ON events.id = event
                   WHERE database = ? AND state = 'waiting' ORDER BY event LIMIT ?"""
        rows = await self._db.read(lambda c: c.execute(query, (database, limit)).fetchall())
        return [Delivery(row["id"], MigrationEvent.of(row)) for row in rows]

    async def settle(self, delivery: Delivery, database: str, refused: str = "") -> None:
        """Note that `database` has the event, or why it will not have it."""
        query = "UPDATE deliveries SET state = ?, error = ? WHERE event = ? AND database = ?"
        values = ("refused" if refused else "done", writable(refused), delivery.id, database)
        await self._db.write(lambda connection: connection.execute(query, values))

    async def forget(self, database: str) -> None:
        """Drop what waits for a database that is served no more."""
        query = "DELETE FROM deliveries WHERE database = ? AND state = 'waiting'"
        await self._db.write(lambda connection: connection.execute(query, (database,)))

    async def waiting_for(self) -> set[str]:
        """The databases that events wait for, served or not."""
        query = "SELECT DISTINCT database FROM deliveries WHERE state = 'waiting'"
        rows = await self._db.read(lambda c: c.execute(query).fetchall())
        return {row["database"] for row in rows}

    async def count(self, database: str) -> dict[str, Any]:
        """How many events wait for `database`, were refused by it, and why the last of those."""

        def look(connection: sqlite3.Connection) -> dict[str, Any]:
            counts = dict(
                connection.execute(
                    """SELECT state, count(*) FROM deliveries
                       WHERE database = ? AND state != 'done' GROUP BY state""",
                    (database,),
                ).fetchall()
            )
            last = connection.execute(
                """SELECT error FROM deliveries WHERE database = ? AND state = 'refused'
                   ORDER BY event DESC LIMIT 1""",
                (database,),
            ).fetchone()
            return {
                "waiting": counts.get("waiting", 0),
                "refused": counts.get("refused", 0),
                "refusal": last["error"] if last else "",
            }

        return await self._db.read(look)

    async def recent(self, limit: int) -> list[dict[str, Any]]:
        """The last `limit` events; their state says how many of the databases have got them."""
        query = """SELECT events.*, count(database) AS databases,
                          coalesce(sum(state = 'done'), 0) AS done,
                          coalesce(sum(state = 'refused'), 0) AS refused
                   FROM events LEFT JOIN deliveries ON events.id = event
                   GROUP BY events.id ORDER BY events.id DESC LIMIT ?"""
        rows = await self._db.read(lambda c: c.execute(query, (limit,)).fetchall())
        return [{**dict(row), "state": _words(row)} for row in reversed(rows)]

    async def prune(self, before: float) -> int:
        """Remove what nobody waits for and is older than `before` (Unix time); how much it was.

        The last event of each source, run and kind of data stays, as does what waits, and the
        newest dead letters.
        """

        def prune(connection: sqlite3.Connection) -> int:
            values = {"before": before, "most": AT_ONCE}
            rows = connection.execute(f"{_OLD_EVENTS} LIMIT :most", values).fetchall()
            ids = [(row["id"],) for row in rows]
            connection.executemany("DELETE FROM deliveries WHERE event = ?", ids)
            connection.executemany("DELETE FROM events WHERE id = ?", ids)
            letters = connection.execute(f"{OLD_LETTERS} LIMIT :most", values).fetchall()
            for row in letters:
                take_letter(connection, row["id"])
            return len(rows) + len(letters)

        removed = 0
        while some := await self._db.write(prune):
            removed += some
        return removed


def _insert(
    connection: sqlite3.Connection, event: MigrationEvent, databases: Sequence[str]
) -> bool:
    cursor = connection.execute(
        """INSERT INTO events (time, source, proposal, run, data, key)
           VALUES (:time, :source, :proposal, :run, :data, :key) ON CONFLICT DO NOTHING""",
        {**asdict(event), "key": writable(event.key)},
    )
    if cursor.rowcount != 1:
        return False
    connection.executemany(
        "INSERT INTO deliveries (event, database, state) VALUES (?, ?, 'waiting')",
        [(cursor.lastrowid, database) for database in databases],
    )
    return True


def _words(row: sqlite3.Row) -> str:
    refused = f", {row['refused']} refused" if row["refused"] else ""
    return f"handed to {row['done']} of {row['databases']}{refused}"
