"""The folder's log `amore.log`: what the daemon does, and what commands do in its place.

When it is long it becomes `amore.log.1`, what was that becomes `amore.log.2`, and so on; the oldest
goes. Its content is copied and it is cut then, instead of being renamed, as it has to stay the
file that other processes have open: commands, Supervisor, somebody's `tail -f`.
"""

import fcntl
import logging
import logging.handlers
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FORMAT = "%(asctime)s %(levelname)-8s %(name)s  %(message)s"
NAME = "amore.log"
OURS = ("runtable", "daemon")
"""The loggers whose debug lines are for us; libraries have theirs."""
LARGEST = 10_000_000
"""Bytes from which on the log is rotated."""
KEPT = 5
"""How many earlier ones are kept."""
WAIT_SECONDS = 1.0
"""How long a line waits for another process that rotates the log; it may hang."""


def log_to(folder: Path, *, terminal: bool, debug: bool = False) -> None:
    """Write what this process logs to the log of `folder`, and to standard error if `terminal`.

    With `debug` standard error gets our own debug lines too, which the file does without. The file
    is made with the first line, so that who only reads needs no permission to write.
    """
    file = SharedLog(folder / NAME)
    file.setLevel(logging.INFO)
    handlers: list[logging.Handler] = [file]
    if terminal or debug:
        handlers.append(logging.StreamHandler(sys.stderr))
    for ours in OURS:
        logging.getLogger(ours).setLevel(logging.DEBUG if debug else logging.NOTSET)
    logging.basicConfig(level=logging.INFO, format=FORMAT, handlers=handlers, force=True)


class SharedLog(logging.handlers.WatchedFileHandler):
    """Appends to a log that other processes append to as well, and rotates it when it is long."""

    def __init__(self, path: Path, *, largest: int = LARGEST, kept: int = KEPT) -> None:
        """Write to `path`; from `largest` bytes on it is rotated, and `kept` older ones stay."""
        super().__init__(path, delay=True, encoding="utf-8", errors="backslashreplace")
        self._path = path
        self._largest = largest
        self._kept = kept
        self._failed_at = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; whoever logs has nothing to do with a disk that cannot be written."""
        try:
            self._append(record)
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Say on standard error what the log cannot take, if it matters."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError) and record.levelno >= logging.WARNING:
            with suppress(OSError, ValueError):  # it may be closed, or on that very disk
                print(f"{self.format(record)}  ({NAME}: {error})", file=sys.stderr, flush=True)
        elif not isinstance(error, OSError):
            super().handleError(record)

    def _append(self, record: logging.LogRecord) -> None:
        """Write one line; it is never between what a rotation copies and where that cuts."""
        self.reopenIfNeeded()
        if self.stream is None:
            self.stream = self._open()
            self._statstream()
        fd = self.stream.fileno()
        with _locked(fd, fcntl.LOCK_SH, WAIT_SECONDS):
            super().emit(record)
        if self._is_long(fd):
            with _locked(fd, fcntl.LOCK_EX, 0.0) as mine:
                if mine and self._is_long(fd):
                    self._rotate(fd)

    def _is_long(self, fd: int) -> bool:
        size = os.fstat(fd).st_size
        return size >= self._largest and size >= self._failed_at + self._largest // 10

    def _rotate(self, fd: int) -> None:
        new = self._path.with_name(f".{self._path.name}.new")
        try:
            with self._path.open("rb") as old, new.open("wb") as copy:
                shutil.copyfileobj(old, copy)
                os.fchmod(copy.fileno(), os.fstat(fd).st_mode & 0o777)
            for number in range(self._kept - 1, 0, -1):
                if (earlier := self._earlier(number)).exists():
                    earlier.replace(self._earlier(number + 1))
            new.replace(self._earlier(1))
            os.ftruncate(fd, 0)
            self._failed_at = 0
        except OSError as error:
            # A full disk, say: it grows on, and by and by a later line tries again.
            new.unlink(missing_ok=True)
            self._failed_at = os.fstat(fd).st_size
            with suppress(OSError):  # on that full disk, there is nowhere to say it
                os.write(fd, f"{self._path.name} cannot be rotated: {error}\n".encode())

    def _earlier(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


@contextmanager
def _locked(fd: int, kind: int, patience: float) -> Iterator[bool]:
    """Hold the lock of a log, or go on without it after `patience` seconds."""
    deadline = time.monotonic() + patience
    held = False
    while not held:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
            held = True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                break
            time.sleep(0.01)
        except OSError:
            break  # a filesystem without locks
    try:
        yield held
    finally:
        if held:
            fcntl.flock(fd, fcntl.LOCK_UN)
