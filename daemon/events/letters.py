"""Dead letters: messages that could not be read, kept with the reason until they can be."""

import sqlite3
from typing import Any

from daemon.database import Database

LETTERS_BY_NUMBER = """
ALTER TABLE dead_letters RENAME TO old_letters;
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,
    source TEXT NOT NULL,
    payload TEXT NOT NULL,
    error TEXT NOT NULL
);
INSERT INTO dead_letters (id, time, source, payload, error)
    SELECT id, time, source, payload, error FROM old_letters;
DROP TABLE old_letters;
"""
"""Gives no number twice: who names a letter that is gone means no other one."""
KEPT_LETTERS = 100
"""So many of the newest stay however old they are."""
OLD_LETTERS = f"""SELECT id FROM dead_letters WHERE time < :before
    AND id <= (SELECT max(id) FROM dead_letters) - {KEPT_LETTERS}"""


class Letters:
    """The dead letters in a database whose last migration about them is LETTERS_BY_NUMBER."""

    def __init__(self, db: Database) -> None:
        """Keep them in `db`."""
        self._db = db

    async def dead_letter(self, source: str, payload: str, error: str, now: float) -> None:
        """Keep a message that could not be read, with the reason."""
        values = (now, *(writable(text) for text in (source, payload, error)))
        query = "INSERT INTO dead_letters (time, source, payload, error) VALUES (?, ?, ?, ?)"
        await self._db.write(lambda connection: connection.execute(query, values))

    async def dead_letters(self, limit: int = 1000) -> list[dict[str, Any]]:
        """The last `limit` messages that could not be read: id, time, source, payload, error."""
        query = "SELECT * FROM dead_letters ORDER BY id DESC LIMIT ?"
        rows = await self._db.read(lambda c: c.execute(query, (limit,)).fetchall())
        return [dict(row) for row in reversed(rows)]

    async def letter_ids(self) -> list[int]:
        """The numbers of all dead letters, the oldest first."""
        query = "SELECT id FROM dead_letters ORDER BY id"
        rows = await self._db.read(lambda c: c.execute(query).fetchall())
        return [row["id"] for row in rows]

    async def letter(self, number: int) -> dict[str, Any] | None:
        """The dead letter with this number; None when it is one no more."""
        query = "SELECT * FROM dead_letters WHERE id = ?"
        row = await self._db.read(lambda c: c.execute(query, (number,)).fetchone())
        return None if row is None else dict(row)

    async def explain_letter(self, letter: int, error: str) -> None:
        """A dead letter still cannot be read, because of `error`."""
        query, values = "UPDATE dead_letters SET error = ? WHERE id = ?", (writable(error), letter)
        await self._db.write(lambda connection: connection.execute(query, values))

    async def count_dead_letters(self) -> int:
        """How many messages could not be read."""
        query = "SELECT count(*) FROM dead_letters"
        return await self._db.read(lambda c: int(c.execute(query).fetchone()[0]))


def take_letter(connection: sqlite3.Connection, number: int) -> bool:
    """Within a transaction of the caller: a dead letter is one no more; False when it was not."""
    query = "DELETE FROM dead_letters WHERE id = ?"
    return connection.execute(query, (number,)).rowcount == 1


def writable(text: str) -> str:
    """`text` as SQLite takes it: no unpaired surrogates, as JSON and lenient decoding can bring."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
