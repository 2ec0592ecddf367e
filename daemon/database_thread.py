"""A thread with its connection to a SQLite file: transactions in it wait for locks."""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")
Identity = tuple[int, int]
"""The device and inode of a file."""

BUSY_POLL = 0.5  # seconds that SQLite itself waits for a lock before we look whether to give up
BUSY_WARNING = 10.0  # seconds of waiting after which the log says so, and again each minute


class DatabaseClosed(RuntimeError):
    """The database was closed while, or before, this was waiting for its turn or for a lock."""


def is_locked(error: sqlite3.Error) -> bool:
    """Tell whether `error` says that another connection holds a lock, so that waiting helps."""
    code: int = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class DatabaseThread:
    """A thread with its connection: the writing or the reading one of a database."""

    def __init__(self, path: Path, name: str) -> None:
        """For the file `path`; `name` says what the thread is for."""
        self.path = path
        self.connection: sqlite3.Connection | None = None
        self.identity: Identity | None = None
        self._name = name
        self._stop = threading.Event()
        self._executor: ThreadPoolExecutor | None = None

    def executor(self) -> ThreadPoolExecutor:
        """What runs work in this thread, started when first asked for; raises DatabaseClosed."""
        if self._stop.is_set():
            raise DatabaseClosed(f"{self.path} is closed")
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, f"{self.path.name} {self._name}")
        return self._executor

    def guard(self, work: Callable[[], T]) -> Callable[[], T]:
        """`work`, but DatabaseClosed when this was closed before its turn."""

        def guarded() -> T:
            if self._stop.is_set():
                raise DatabaseClosed(f"{self.path} was closed before this was done")
            return work()

        return guarded

    def connect(self) -> sqlite3.Connection:
        """Open the file, which must be there."""
        # mode=rw: a file that vanishes just now is an error here, not a new empty database.
        # Connections are made and used in this side's thread, and closed by `shutdown` after it.
        self.connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=BUSY_POLL,
            isolation_level=None,
            check_same_thread=False,
        )
        self.connection.row_factory = sqlite3.Row
        self.connection.execute("PRAGMA foreign_keys = ON")
        return self.connection

    def disconnect(self) -> None:
        """Close the connection, if there is one."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None
            self.identity = None

    def shutdown(self) -> None:
        """Make waiting transactions give up, end the thread and close the connection."""
        self._stop.set()
        if self._executor is not None:
            self._executor.shutdown(wait=True)
        self.disconnect()

    def transaction(
        self, begin: str, fn: Callable[[sqlite3.Connection], T], connection: sqlite3.Connection
    ) -> T:
        """Run `fn` between `begin` and COMMIT; wait for locks, roll back on any exception."""

        def attempt() -> T:
            connection.execute(begin)
            try:
                result = fn(connection)
                # A refused COMMIT leaves the transaction open, waiting for readers to leave.
                self.patiently(lambda: connection.execute("COMMIT"))
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result

        return self.patiently(attempt)

    def patiently(self, step: Callable[[], T]) -> T:
        """Do `step` again for as long as the file is locked and this side is not closed."""
        start = time.monotonic()
        warn_at = BUSY_WARNING
        while True:
            try:
                return step()
            except sqlite3.OperationalError as error:
                if not is_locked(error):
                    raise
                waited = time.monotonic() - start
                if self._stop.is_set():
                    raise DatabaseClosed(
                        f"{self.path} was closed while locked by another program"
                    ) from error
                if waited > warn_at:
                    log.warning("%s: locked by another program for %.0f s", self.path, waited)
                    warn_at = waited + 60.0
                # A deadlock answer comes at once, without SQLite's own waiting.
                self._stop.wait(0.02)
