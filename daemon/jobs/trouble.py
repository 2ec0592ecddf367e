"""Trouble that passes by itself (a full disk, a busy host) is waited out; nothing is given up."""

import asyncio
import errno
import logging
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

from daemon.database import ClosedFileError, SchemaError

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds between two tries: doubled each time."""

_ERRNOS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}
    | {errno.EIO, errno.EROFS, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENETDOWN}
)
_SQLITE_CODES = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
    | {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM}
    | {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
)


def is_passing(error: BaseException) -> bool:
    """Tell whether `error` is about the state of this host or its disks, not about the work.

    A database that was damaged or replaced by another is: somebody can put a good one there.
    """
    if isinstance(error, SchemaError | ClosedFileError):
        return True
    if isinstance(error, sqlite3.Error):
        code: int = getattr(error, "sqlite_errorcode", 0) or 0
        return code & 0xFF in _SQLITE_CODES
    return isinstance(error, OSError) and error.errno in _ERRNOS


async def concerns_all(error: BaseException, folders: Iterable[Path]) -> bool:
    """Tell whether `error` comes from the state of this host, or of one of `folders`.

    A permission that is missing can be the trouble of one job's folder alone; but where nobody can
    make anything, somebody has closed the folder for all.
    """
    if isinstance(error, PermissionError) and not is_passing(error):
        return await asyncio.to_thread(lambda: any(map(_is_closed, folders)))
    return is_passing(error)


def _is_closed(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return False
    except FileNotFoundError:
        return False
    except OSError:
        return True


async def insist(
    step: Callable[[], Awaitable[T]],
    what: str,
    log: logging.Logger,
    *,
    folders: Iterable[Path] = (),
    tell: Callable[[str], None] = lambda _: None,
) -> T:
    """Do `step` until no passing trouble hinders it; other exceptions are the caller's.

    `what` names the step in the log; `folders` are those that it writes into. `tell` is told what
    the trouble is, each time.
    """
    pause = FIRST_PAUSE
    while True:
        try:
            return await step()
        except Exception as error:
            if not await concerns_all(error, folders):
                raise
            log.warning("%s: %s; trying again in %g s", what, error, pause)
            tell(str(error))
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
