"""One SQLite file with one writer thread: short transactions that wait, never on the event loop."""

import asyncio
import errno
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeVar

from daemon.database_thread import DatabaseThread, Identity

log = logging.getLogger(__name__)

T = TypeVar("T")

_DAMAGED = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})
LOOK_SECONDS = 1.0  # how often to look whether the file is still the one that was opened


class SchemaError(RuntimeError):
    """The file is not a database that this version can use; it was left as it is."""


class ReplacedError(SchemaError):
    """The file was deleted or replaced while it was in use, and may not be made anew just so."""


class ClosedFileError(PermissionError):
    """The file may not be read and written, by its permissions."""


class _Moved(Exception):
    """The file at the path is not the one that the writer has prepared."""


class Database:
    """A SQLite file that is opened on first use; all writes go through one thread, in order.

    `migrations` are SQL scripts, one per schema version (`PRAGMA user_version`); an older file
    is copied to `<name>.v<version>.backup` before it is changed. `prepare` is called in a
    transaction with each file that is opened, `check` with its path before it is touched.
    `wal` False means the rollback journal. A file that was deleted or replaced is noticed by its
    inode and opened, or made, anew; with `anew` False that is a ReplacedError instead.
    """

    def __init__(
        self,
        path: Path,
        *,
        migrations: Sequence[str] = (),
        wal: bool,
        check: Callable[[Path], None] | None = None,
        prepare: Callable[[sqlite3.Connection], None] | None = None,
        anew: bool = True,
    ) -> None:
        self.path = path
        self._anew = anew
        self._watched: asyncio.Event | None = None
        self._migrations = tuple(migrations)
        self._wal = wal
        self._check = check
        self._prepare = prepare
        self._prepared: Identity | None = None
        self._log_path = path.with_name(f"{path.name}-wal")
        self._logged: Identity | None = None
        self._writer = DatabaseThread(path, "write")
        self._reader = DatabaseThread(path, "read")
        self._pending: set[asyncio.Future[object]] = set()

    async def open(self) -> None:
        """Open, and if needed make or migrate, the file now. Raises SchemaError, OSError."""
        await self._submit(self._writer, self._ensure_prepared)

    async def write(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run `fn` in the writer thread within one transaction and return what it returns.

        Waits as long as other programs hold the file locked. `fn` may be called again when
        the file was replaced under it, so it must not have other effects. What it raises rolls
        the transaction back and is raised here. Raises DatabaseClosed after `close`.
        """
        return await self._submit(self._writer, lambda: self._write(fn))

    async def read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run `fn` in the reader thread, on one consistent state, and return what it returns."""
        while True:
            try:
                return await self._submit(self._reader, lambda: self._read(fn))
            except _Moved:
                await self.open()

    async def until_replaced(self) -> NoReturn:
        """Wait, for ever if need be, until the file is deleted or replaced: a ReplacedError.

        That is for the one who calls this to tell: reads and writes wait until it is raised here.
        """
        self._watched = asyncio.Event()
        try:
            while True:
                found = await asyncio.to_thread(identity, self.path)
                if self._prepared is not None and found != self._prepared:
                    raise self._replaced()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            self._watched.set()

    def _replaced(self) -> ReplacedError:
        return ReplacedError(f"{self.path} was deleted or replaced while it was in use")

    async def close(self, grace: float = 5.0) -> None:
        """Finish what is queued, for at most `grace` seconds of waiting for locks; then close."""
        if self._pending:
            await asyncio.wait(self._pending, timeout=grace)
        for side in (self._reader, self._writer):
            await asyncio.to_thread(side.shutdown)

    async def _submit(self, side: DatabaseThread, work: Callable[[], T]) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().run_in_executor(
            side.executor(), side.guard(work)
        )
        pending: asyncio.Future[object] = future  # type: ignore[assignment]  # Future is invariant
        self._pending.add(pending)
        pending.add_done_callback(self._pending.discard)
        try:
            return await future
        except ReplacedError:
            if self._watched is not None:
                await self._watched.wait()
            raise
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
                raise
            words = f"{self.path} is no SQLite database, or a damaged one ({error})"
            raise SchemaError(f"{words}: move it away, and a new one is made") from error

    # From here on: in the writer thread.

    def _write(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        while True:
            connection = self._ensure_prepared()
            result = self._writer.transaction("BEGIN IMMEDIATE", fn, connection)
            # What was committed into a file that had been deleted meanwhile is done again.
            if identity(self.path) == self._prepared:
                return result

    def _ensure_prepared(self) -> sqlite3.Connection:
        found = identity(self.path)
        side = self._writer
        if side.connection is not None and found == self._prepared:
            return side.connection
        if self._prepared is not None and not self._anew:
            self._drop_stale_log()
            raise self._replaced()
        if self._prepared is not None:
            log.warning("%s was deleted or replaced: opening it anew", self.path)
        side.disconnect()
        self._prepared = None
        self._drop_stale_log()
        if found is None:
            _make_file(self.path)
        elif self._check is not None:
            side.patiently(partial(self._check, self.path))
        if not os.access(self.path, os.R_OK | os.W_OK):
            raise ClosedFileError(errno.EACCES, "no permission to read and write", str(self.path))
        connection = side.connect()
        try:
            self._set_up(connection)
        except BaseException:
            side.disconnect()
            raise
        self._prepared = identity(self.path)
        self._logged = identity(self._log_path)
        return connection

    def _drop_stale_log(self) -> None:
        # SQLite leaves the log of a file that was replaced, and would play it into the new one.
        if self._logged is not None and identity(self._log_path) == self._logged:
            self._log_path.unlink(missing_ok=True)
            self.path.with_name(f"{self.path.name}-shm").unlink(missing_ok=True)
        self._logged = None

    def _set_up(self, connection: sqlite3.Connection) -> None:
        side = self._writer
        mode = "WAL" if self._wal else "DELETE"
        side.patiently(lambda: connection.execute(f"PRAGMA journal_mode = {mode}").fetchone())
        # An acknowledged event or a user's edit must outlive a power cut.
        connection.execute("PRAGMA synchronous = FULL")
        if self._migrations:
            self._migrate(connection)
        if self._prepare is not None:
            side.transaction("BEGIN IMMEDIATE", self._prepare, connection)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        side = self._writer
        row = side.patiently(lambda: connection.execute("PRAGMA user_version").fetchone())
        version: int = row[0]
        newest = len(self._migrations)
        if version > newest:
            raise SchemaError(
                f"{self.path} has schema version {version}, newer than {newest}, the newest that "
                f"this version of Runtable knows: use the Runtable that made it, or a later one"
            )
        if 0 < version < newest:
            _backup(connection, self.path.with_name(f"{self.path.name}.v{version}.backup"))
        for number in range(version, newest):
            script = f"{self._migrations[number]};\nPRAGMA user_version = {number + 1};"
            side.transaction("BEGIN IMMEDIATE", partial(run_script, script=script), connection)

    # From here on: in the reader thread.

    def _read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        side = self._reader
        prepared = self._prepared
        if prepared is None or identity(self.path) != prepared:
            side.disconnect()
            raise _Moved
        if side.connection is None or side.identity != prepared:
            side.disconnect()
            connection = side.connect()
            connection.execute("PRAGMA query_only = ON")
            side.identity = prepared
        assert side.connection is not None
        return side.transaction("BEGIN", fn, side.connection)


def identity(path: Path) -> Identity | None:
    """Return (device, inode) of the file at `path`, or None when there is none."""
    try:
        info = path.stat()
    except FileNotFoundError:
        return None
    return info.st_dev, info.st_ino


def run_script(connection: sqlite3.Connection, script: str) -> None:
    """Execute the statements of `script` one by one, within the transaction that is open.

    (`Connection.executescript` commits first, which would tear a migration apart.)
    """
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
    if statement.strip():
        connection.execute(statement)


def _make_file(path: Path) -> None:
    # SQLite would make it 0644 whatever the umask allows; here the umask decides who may write.
    # Another process that makes it at the same moment makes the same empty file.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))


def _backup(connection: sqlite3.Connection, target: Path) -> None:
    target.unlink(missing_ok=True)
    copy = sqlite3.connect(target)
    try:
        connection.backup(copy)
    finally:
        copy.close()
