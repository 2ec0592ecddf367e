"""Runs that arrive are shown in the table at once, but a table that is locked holds up no job."""

import asyncio
from collections.abc import Callable, Coroutine
from logging import Logger

from daemon.events import MigrationEvent

PATIENCE = 1.0
"""Seconds that the jobs of a run wait for its row."""


class Arrivals:
    """Has `show` called for each event, and waits for that unless it takes long."""

    def __init__(
        self, show: Callable[[MigrationEvent], Coroutine[None, None, None]], *, log: Logger
    ) -> None:
        """`show` makes the run's row; a job makes it too when it begins."""
        self._show = show
        self._log = log
        self._showing: set[asyncio.Task[None]] = set()

    async def arrived(self, event: MigrationEvent) -> None:
        """Show the run of `event`. Raises what `show` does, if it does so soon."""
        held_up = bool(self._showing)
        task = asyncio.create_task(self._show(event))
        self._showing.add(task)
        if not held_up:
            await asyncio.wait({task}, timeout=PATIENCE)
        if task.done():
            self._showing.remove(task)
            task.result()
        else:
            task.add_done_callback(self._shown_late)

    async def close(self) -> None:
        """Give up what still waits: the job of the run, or its event, is stored."""
        for task in self._showing:
            task.cancel()
        await asyncio.gather(*self._showing, return_exceptions=True)

    def _shown_late(self, task: asyncio.Task[None]) -> None:
        self._showing.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._log.error("a run that arrived cannot be shown: %s", task.exception())
