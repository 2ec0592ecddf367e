"""Runs that arrive are shown in the table at once, but a table that is locked holds up no job."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from logging import Logger

from daemon.events import MigrationEvent

PATIENCE = 1.0
"""Seconds that the jobs of a run wait for its row."""


class Arrivals:
    """Has `show` called for the events that arrive, and waits for that unless it takes long."""

    def __init__(
        self,
        show: Callable[[Sequence[MigrationEvent]], Coroutine[None, None, None]],
        *,
        log: Logger,
    ) -> None:
        """`show` makes the rows of runs; a job makes its own too when it begins."""
        self._show = show
        self._log = log
        self._showing: set[asyncio.Task[None]] = set()

    async def arrived(self, events: Sequence[MigrationEvent]) -> None:
        """Show the runs of `events`. Raises what `show` does, if it does so soon."""
        held_up = bool(self._showing)
        task = asyncio.create_task(self._show(events))
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
            self._log.error("runs that arrived cannot be shown: %s", task.exception())
