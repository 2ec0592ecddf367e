"""The run table `runs.sqlite`: runs, variables, their values, and the folder's settings."""

import logging
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from daemon.database import Database, SchemaError, run_script
from daemon.settings import Settings
from daemon.store import formats, rows, schema
from daemon.store.views import Views
from daemon.typed_settings import Value

log = logging.getLogger(__name__)


class RunsTable:
    """`runs.sqlite` of one folder. Its methods wait for locks that other programs hold.

    `proposal` is stored in a database that has none; a database that is deleted while in use
    is made anew with the proposal it had. `clock` gives the time of changes. `kind` is how the
    file is used: `ReadOnlyDatabase` where it may not be written.
    """

    def __init__(
        self,
        path: Path,
        proposal: int | None = None,
        *,
        clock: Callable[[], float] = time.time,
        kind: type[Database] = Database,
    ) -> None:
        self.path = path
        self._proposal = proposal
        self._clock = clock
        self._last_time = 0.0
        self._generation = 0
        self._views = Views(path)
        self._warned: set[str] = set()
        self._variables: list[Mapping[str, Any]] = []
        self._database = kind(path, wal=False, check=_refuse, prepare=self._prepare)

    async def open(self) -> None:
        """Open the database, or make it; one of an older format is converted, after a copy.

        Raises SchemaError when it cannot be used.
        """
        try:
            await self._database.open()
        except sqlite3.OperationalError as error:
            raise SchemaError(
                f"{self.path} could not be opened to write, and is as it was: {error}. Is its disk "
                f"full?"
            ) from error

    async def close(self, grace: float = 5.0) -> None:
        """Finish what is queued, waiting for locks for at most `grace` seconds, and close."""
        await self._database.close(grace)

    async def generation(self) -> int:
        """How many files this has opened: one more for each time that it was deleted or replaced.

        It is made anew if it is not there.
        """
        await self._database.open()
        return self._generation

    async def ensure_run(
        self, proposal: int, run: int, start_time: float | None, added_at: float
    ) -> bool:
        """Make the row of a run if there is none; True if it was made.

        A row without a start time gets this one.
        """
        return (await self.ensure_runs([(proposal, run, start_time, added_at)]))[0]

    async def ensure_runs(self, runs: Sequence[tuple[int, int, float | None, float]]) -> list[bool]:
        """Do the same for many, each (proposal, run, start_time, added_at), in one transaction."""
        return await self._database.write(
            lambda c: [
                rows.ensure_run(c, _key(proposal, run), start_time, added_at)
                for proposal, run, start_time, added_at in runs
            ]
        )

    async def set_start_time(self, proposal: int, run: int, start_time: float) -> None:
        """Store when the run began; does nothing for a run without a row."""
        await self._database.write(
            lambda c: c.execute(
                "UPDATE run_info SET start_time = ?3 "
                "WHERE proposal = ?1 AND run = ?2 AND start_time IS NOT ?3",
                (*_key(proposal, run), start_time),
            )
        )

    async def delete_run(self, proposal: int, run: int) -> None:
        """Remove the row of a run and all its values."""
        key = _key(proposal, run)

        def write(connection: sqlite3.Connection) -> None:
            for table in ("run_variables", "run_info"):
                connection.execute(f"DELETE FROM {table} WHERE proposal = ? AND run = ?", key)

        await self._database.write(write)

    async def register(self, variables: Sequence[Mapping[str, Any]]) -> None:
        """Make known the variables of a context, each as `graph.Node.describe` gives it.

        Their tags become exactly the given ones. Transient variables have no cell and are left
        out; so are names that the table or a user-editable variable has, and the log says so.
        """

        def write(connection: sqlite3.Connection) -> None:
            taken = self._taken(connection, [described["name"] for described in variables])
            kept = [
                described
                for described in variables
                if not described.get("transient") and described["name"] not in taken
            ]
            rows.register(connection, kept)
            self._variables = kept
            self._views.show(connection, [described["name"] for described in kept])

        await self._database.write(write)

    async def set_results(self, proposal: int, run: int, results: Sequence[rows.CellValue]) -> None:
        """Store what the table shows for variables of one run, in one transaction.

        A run without a row gets one, and variables that were never registered are, with their
        name as the title. Their timestamp is the time of the transaction, which may come long
        after the call, and always later than the last one.
        """
        key = _key(proposal, run)

        def write(connection: sqlite3.Connection) -> None:
            taken = self._taken(connection, [result.name for result in results])
            kept = [result for result in results if result.name not in taken]
            names = [result.name for result in kept]
            now = self._clock()
            rows.ensure_run(connection, key, None, now)
            rows.register_names(connection, names)
            timestamp = self._next_time(now)
            for result in kept:
                rows.store_result(connection, key, timestamp, result)
            self._views.show(connection, names)

        await self._database.write(write)

    async def replace_value(
        self, proposal: int, run: int, name: str, old: bytes, new: bytes
    ) -> bool:
        """Put `new` in place of the blob `old` in one cell; False if the cell shows another."""
        key = _key(proposal, run)

        def write(connection: sqlite3.Connection) -> bool:
            query = (
                "UPDATE run_variables SET value = ?, timestamp = ? "
                "WHERE proposal = ? AND run = ? AND name = ? AND version = 1 AND value = ?"
            )
            timestamp = self._next_time(self._clock())
            return connection.execute(query, (new, timestamp, *key, name, old)).rowcount > 0

        return await self._database.write(write)

    async def set_value(self, proposal: int, run: int, name: str, value: rows.Editable) -> None:
        """Store what a person, or the daemon itself, says about a run; None clears it.

        `name` is a user-editable variable, `comment` or `processing_error`. Raises KeyError when
        there is no such variable, TypeError when the value is not of its type.
        """
        key = _key(proposal, run)

        def write(connection: sqlite3.Connection) -> None:
            now = self._clock()
            if rows.store_value(connection, key, self._next_time(now), name, value):
                rows.ensure_run(connection, key, None, now)
                self._views.show(connection, [name])

        await self._database.write(write)

    async def runs(self) -> list[rows.RunRow]:
        """Return all runs of the table, by proposal and run."""
        query = "SELECT proposal, run, start_time, added_at FROM run_info ORDER BY proposal, run"
        return await self._database.read(lambda c: [rows.RunRow(*row) for row in c.execute(query)])

    async def has_run(self, proposal: int, run: int) -> bool:
        """Tell whether a run has a row."""
        query = "SELECT 1 FROM run_info WHERE proposal = ? AND run = ?"
        return await self._database.read(
            lambda c: c.execute(query, (proposal, run)).fetchone() is not None
        )

    async def start_time(self, proposal: int, run: int) -> float | None:
        """Return when a run began (seconds since the epoch); None when that is not known."""
        query = "SELECT start_time FROM run_info WHERE proposal = ? AND run = ?"
        row = await self._database.read(lambda c: c.execute(query, (proposal, run)).fetchone())
        return None if row is None else row["start_time"]

    async def setting_rows(self) -> dict[str, Value]:
        """Return the settings as they are stored, those of other programs included."""
        query = "SELECT key, value FROM metameta"
        return await self._database.read(lambda c: dict(map(tuple, c.execute(query))))

    async def settings(self) -> Settings:
        """Return the settings with their defaults; unusable values are in its `warnings`."""
        settings = Settings.from_rows(await self.setting_rows())
        self._proposal = settings.proposal or self._proposal
        return settings

    async def set_setting(self, key: str, value: Value) -> None:
        """Store a setting; `value` is what `Settings.parse` gave for it."""
        await self._database.write(
            lambda c: c.execute(
                "INSERT INTO metameta (key, value) VALUES (?, ?) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (key, value),
            )
        )
        if key == "proposal" and isinstance(value, int):
            self._proposal = value

    async def delete_setting(self, key: str) -> bool:
        """Set a setting back to its default; False if it was not set."""
        deleted = await self._database.write(
            lambda c: c.execute("DELETE FROM metameta WHERE key = ?", (key,)).rowcount
        )
        return deleted > 0

    # From here on: in the writer thread.

    def _prepare(self, connection: sqlite3.Connection) -> None:
        self._generation += 1
        if schema.is_blank(connection):
            run_script(connection, schema.TABLES)
            connection.executemany(
                "INSERT INTO metameta (key, value) VALUES (?, ?)",
                [("data_format_version", schema.FORMAT), ("db_id", secrets.token_hex(20))],
            )
            # Deleted while a job runs: its context is not announced again.
            rows.register(connection, self._variables)
        elif (version := schema.format_version(connection) or 0) < schema.FORMAT:
            formats.convert(connection, self.path)
        elif version > schema.FORMAT:
            log.warning(
                "%s was converted to a format newer than %d by another program; the tables that "
                "we know are as they were, and only they are used",
                self.path,
                schema.FORMAT,
            )
        if self._proposal is not None:
            connection.execute(
                "INSERT OR IGNORE INTO metameta (key, value) VALUES ('proposal', ?)",
                (self._proposal,),
            )
        # No index has the timestamps: to look for the latest would mean to read every thumbnail.
        self._last_time = max(self._last_time, self.path.stat().st_mtime)
        names = connection.execute("SELECT name FROM variables ORDER BY rowid").fetchall()
        self._views.forget()
        self._views.show(connection, [row["name"] for row in names])

    def _next_time(self, now: float) -> float:
        # Readers ask for what is later than the last that they saw.
        self._last_time = max(now, self._last_time + 1e-6)
        return self._last_time

    def _taken(self, connection: sqlite3.Connection, names: Iterable[str]) -> set[str]:
        """Those of `names` that no computed variable can have; said once in the log."""
        editable = rows.editable(connection)
        taken = {name for name in names if name in schema.RESERVED or name in editable}
        for name in sorted(taken - self._warned):
            whose = "a user-editable variable has it" if name in editable else "the table needs it"
            log.warning("%s: no variable can be named %s: %s", self.path, name, whose)
        self._warned |= taken
        return taken


def _key(proposal: int, run: int) -> rows.Run:
    # NumPy's integers would become blobs.
    return int(proposal), int(run)


def _refuse(path: Path) -> None:
    found = schema.check(path, oldest=formats.OLDEST)
    if found:
        raise SchemaError(
            f"{path} cannot be used and was left as it is: {'; '.join(found)}. "
            f"Move it away to have a new one made"
        )
