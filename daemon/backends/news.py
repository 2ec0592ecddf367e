"""Looks into the folders of attempts that run where nothing can wake the daemon."""

import asyncio
import os
from collections.abc import Callable, Iterable
from pathlib import Path

LOOK_SECONDS = 0.2
"""How often: a look takes a few microseconds for each attempt, unless its filesystem hangs."""


class News:
    """Calls `tell(attempt_dir)` when the journals of an attempt that is watched have grown."""

    def __init__(self, tell: Callable[[Path], None]) -> None:
        self._tell = tell
        self._sizes: dict[Path, int] = {}
        self._task: asyncio.Task[None] | None = None

    def watch(self, attempt_dir: Path) -> None:
        """Look at this attempt too, until `forget`."""
        self._sizes.setdefault(attempt_dir, 0)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._look())

    def forget(self, attempt_dir: Path) -> None:
        """Look at it no more."""
        self._sizes.pop(attempt_dir, None)

    async def close(self) -> None:
        """Look no more."""
        self._sizes.clear()
        if self._task is not None:
            await self._task

    async def _look(self) -> None:
        while self._sizes:
            found = await asyncio.to_thread(_sizes, list(self._sizes))
            for attempt_dir, size in found.items():
                if self._sizes.get(attempt_dir, size) != size:
                    self._sizes[attempt_dir] = size
                    self._tell(attempt_dir)
            await asyncio.sleep(LOOK_SECONDS)


def _sizes(attempt_dirs: Iterable[Path]) -> dict[Path, int]:
    return {attempt_dir: _size(attempt_dir) for attempt_dir in attempt_dirs}


def _size(attempt_dir: Path) -> int:
    """Bytes in all journals of an attempt, those of a folder that is gone being none."""
    try:
        with os.scandir(attempt_dir) as entries:
            return sum(entry.stat().st_size for entry in entries if entry.name[:8] == "journal.")
    except OSError:
        return 0
