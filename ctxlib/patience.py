"""Waits while a result cannot be written and the disk is to blame, not the variable."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_LOOK = 0.5
"""Seconds between two looks at how much room there is."""
_LONGEST_PAUSE = 30.0
"""Seconds after which it is tried again in any case: quotas and permissions do not tell."""
_OF_THE_DISK = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
    | {errno.EIO, errno.ESTALE, errno.ETIMEDOUT}
)
# By a name of our own: a variable may put something else in place of that in the module.
_sleep = time.sleep


def until_written(
    write: Callable[[], T],
    folder: Path,
    tell: Callable[[OSError], None],
    sleep: Callable[[float], None] = _sleep,
) -> T:
    """Give what `write` gives, once the disk lets it write into `folder`.

    `tell` is called after each try that failed. What fails for other reasons, or elsewhere, raises.
    """
    pause = 2 * _LOOK
    while True:
        try:
            return write()
        except OSError as error:
            if not _is_of_the_disk(error, folder):
                raise
            before = _room(folder)
            tell(error)
        waited = 0.0
        # All of it would be written, and the disk filled to its last block, each time.
        while waited < pause and _room(folder) <= before:
            sleep(_LOOK)
            waited += _LOOK
        pause = min(2 * pause, _LONGEST_PAUSE)


def _is_of_the_disk(error: OSError, folder: Path) -> bool:
    """Tell whether a file in `folder` could not be written; the value may come from others."""
    name = error.filename
    within = isinstance(name, str) and Path(name).is_relative_to(folder)
    return within and error.errno in _OF_THE_DISK


def _room(folder: Path) -> int:
    """Bytes that can be written; 0 where nobody can tell."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize
