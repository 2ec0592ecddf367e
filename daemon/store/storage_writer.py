"""One thread that writes to a database folder, each time with the folder's lock."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from daemon.lock import FolderLock
from daemon.store.storage import StorageBusyError, StorageClosedError

T = TypeVar("T")

_DAEMON_SECONDS = 1.0  # a killed daemon's name may stay in the lock for a moment


class FolderWriter:
    """Does what is to be written in a thread with an event loop of its own: callers may have one.

    Its methods may be called from several threads.
    """

    def __init__(self, folder: Path, wait: float) -> None:
        """Others that hold the lock of `folder` are waited for at most `wait` seconds."""
        self._folder = folder
        self._wait = wait
        self._executor = ThreadPoolExecutor(1, f"storage {folder.name}")
        self._runner = asyncio.Runner()
        self._turn = threading.Lock()
        self._open = True

    def check_open(self) -> None:
        """Raise StorageClosedError after `close`."""
        if not self._open:
            raise StorageClosedError(f"the storage of {self._folder} is closed")

    def write(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do `work` with the folder's lock and return what it returns.

        Raises StorageBusyError when a daemon has the lock, or somebody else for too long.
        """

        async def alone() -> T:
            lock = FolderLock(self._folder)
            await self._take(lock)
            try:
                return await work()
            finally:
                lock.release()

        with self._turn:
            self.check_open()
            future: Future[T] = self._executor.submit(lambda: self._runner.run(alone()))
        return future.result()

    def close(self, last: Callable[[], Awaitable[object]]) -> None:
        """Finish what was begun, do `last` without the lock, and end; once is enough."""

        async def end() -> Any:
            await last()

        with self._turn:
            if self._open:
                self._open = False
                self._executor.submit(lambda: self._runner.run(end())).result()
                self._executor.shutdown()
                self._runner.close()

    async def _take(self, lock: FolderLock) -> None:
        start = time.monotonic()
        while not lock.acquire("command", time.time()):
            waited, holder = time.monotonic() - start, lock.holder()
            if holder is not None and holder.role == "daemon" and waited > _DAEMON_SECONDS:
                raise StorageBusyError(
                    f"{self._folder} is served by {holder}, which alone writes to it: hand results "
                    f"to it with ctxlib.submit, or end it"
                )
            if waited > self._wait:
                raise StorageBusyError(
                    f"{self._folder} is in use by {holder or 'another process'} for more than "
                    f"{self._wait:.0f} s: end that, or try again later"
                )
            await asyncio.sleep(0.01)
