"""A database of a folder that one may not write, looked at: nothing there is made or changed."""

import contextlib
import errno
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from daemon.database import Database, SchemaError, identity, run_script
from daemon.database_thread import is_locked

T = TypeVar("T")


class ReadOnlyDatabase(Database):
    """Reads like a `Database`; one who writes gets PermissionError.

    What SQLite cannot read where nothing may be written (a transaction that a killed program left,
    a write-ahead log without its index, an older schema) is read from a copy in memory.
    """

    async def open(self) -> None:
        """Open the file to read. Raises SchemaError, OSError, sqlite3.Error when that cannot be."""
        await self._submit(self._reader, self._ensure_readable)

    async def write(self, fn: Callable[[sqlite3.Connection], T]) -> T:  # noqa: ARG002
        """Refuse with PermissionError."""
        raise PermissionError(errno.EACCES, "it is only read here", str(self.path))

    def _read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        return self._reader.transaction("BEGIN", fn, self._ensure_readable())

    def _ensure_readable(self) -> sqlite3.Connection:
        side, found = self._reader, identity(self.path)
        if side.connection is None or side.identity != found:
            side.disconnect()
            side.connection = side.patiently(self._connect)
            side.connection.execute("PRAGMA query_only = ON")
            side.identity = found
        return side.connection

    def _connect(self) -> sqlite3.Connection:
        if not self.path.exists():
            return self._migrated(_connection(":memory:"))
        if self._check is not None:
            with contextlib.suppress(sqlite3.OperationalError):  # the copy is read then
                self._check(self.path)
        connection = _connection(f"{self.path.absolute().as_uri()}?mode=ro")
        try:
            if _version(connection) == len(self._migrations):
                return connection
        except sqlite3.OperationalError as error:
            if is_locked(error):
                raise
        connection.close()
        return self._migrated(_copy(self.path))

    def _migrated(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        """Bring a copy to the newest schema."""
        version, newest = _version(connection), len(self._migrations)
        if version > newest:
            connection.close()
            raise SchemaError(
                f"{self.path} has schema version {version}, newer than {newest}, the newest that "
                f"this version of Runtable knows: use the Runtable that made it, or a later one"
            )
        scripts: Sequence[str] = self._migrations[version:]
        for script in scripts:
            run_script(connection, script)
        return connection


def _connection(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        uri, uri=True, timeout=0.5, isolation_level=None, check_same_thread=False
    )
    connection.row_factory = sqlite3.Row
    return connection


def _version(connection: sqlite3.Connection) -> int:
    # The first table is looked at too, as the version alone can come from a file that is no more.
    connection.execute("SELECT name FROM sqlite_master LIMIT 1").fetchone()
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _copy(path: Path) -> sqlite3.Connection:
    """What is in a database, with what a killed program left beside it, in memory."""
    memory = _connection(":memory:")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        for suffix in ("", "-wal", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
        with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as disk:
            disk.execute("PRAGMA journal_mode = DELETE")
            disk.backup(memory)
    return memory
