"""Watches the proposal's runs; those of another one when the settings say so."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ctxlib.run_pattern import RunPattern
from daemon.events.filesystem_source import FilesystemSource
from daemon.events.inbox import Inbox
from daemon.locate import LOOK_SECONDS
from daemon.settings import Settings

Where = tuple[Path | None, int | None, RunPattern]


class Watching:
    """The source of events of runs that arrive, wherever the settings say that they do."""

    def __init__(
        self,
        inbox: Inbox,
        *,
        path: Callable[[], Awaitable[Path | None]],
        settings: Callable[[], Settings],
        log: logging.Logger,
    ) -> None:
        """Store events in `inbox`; `path` gives the proposal's folder, None when there is none."""
        self._inbox = inbox
        self._path = path
        self._settings = settings
        self._log = log
        self._changed = asyncio.Event()
        self._source: FilesystemSource | None = None

    def describe(self) -> str | None:
        """What is watched, in words; None when nothing is."""
        return None if self._source is None else self._source.describe()

    def settings_changed(self) -> None:
        """Runs may be elsewhere now."""
        self._changed.set()

    async def run(self) -> None:
        """Watch, for ever."""
        while True:
            where = await self._where()
            watching = asyncio.create_task(self._watch(*where))
            changed = asyncio.create_task(self._until_elsewhere(where))
            try:
                await asyncio.wait([watching, changed], return_when=asyncio.FIRST_COMPLETED)
                if watching.done():
                    watching.result()
            finally:
                await cancel([watching, changed])
                self._source = None

    async def _where(self) -> Where:
        settings = self._settings()
        return await self._path(), settings.proposal, settings.runs

    async def _watch(self, root: Path | None, proposal: int | None, pattern: RunPattern) -> None:
        if root is None or proposal is None:
            self._log.warning(
                "proposal %s has no folder that can be watched: set it with "
                "`runtable db-config proposal_path FOLDER`",
                proposal,
            )
            await asyncio.get_running_loop().create_future()  # until the settings change
            return
        self._source = FilesystemSource(
            root,
            proposal,
            pattern=pattern,
            settings=self._settings,
            store=self._inbox.store,
            last_keys=self._inbox.last_keys,
            log=self._log,
        )
        await self._source.run()

    async def _until_elsewhere(self, where: Where) -> None:
        # A folder that is not there yet may appear, and nothing would tell.
        pause = LOOK_SECONDS if where[0] is None else None
        while True:
            self._changed.clear()
            if await self._where() != where:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()


async def cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
