"""Turns events into jobs, many at once: the rows of their runs first, then the jobs."""

from collections.abc import Awaitable, Callable, Sequence

from daemon.events import MigrationEvent
from daemon.events.inbox import Inbox, StoredEvent
from daemon.jobs.job import Job
from daemon.jobs.outside import Outside
from daemon.jobs.queue import Queue
from daemon.jobs.trouble import insist, is_passing

AGAIN_SECONDS = 30.0
"""How often events that could not be taken are tried again."""

BATCH = 500
"""How many events are taken in one transaction: others want to write in between."""


class Intake:
    """Takes events out of the inbox; `queued` is called with the jobs that came of some."""

    def __init__(
        self,
        inbox: Inbox,
        queue: Queue,
        outside: Outside,
        queued: Callable[[Sequence[Job]], Awaitable[None]],
    ) -> None:
        """`outside.arrived` is called before events become jobs."""
        self._inbox = inbox
        self._queue = queue
        self._outside = outside
        self._queued = queued

    async def run(self) -> None:
        """Take events as they come, for ever."""
        log = self._outside.log
        while True:
            pending = await insist(self._inbox.pending, "reading the inbox", log)
            for first in range(0, len(pending), BATCH):
                await self._take_each(pending[first : first + BATCH])
            await self._inbox.wait(AGAIN_SECONDS)

    async def _take_each(self, batch: Sequence[StoredEvent]) -> None:
        """Take what arrived together; what hinders one of many holds up none of the others."""
        try:
            await self._take(batch, alone=len(batch) == 1)
        except Exception as error:
            if len(batch) == 1:
                name = f"event {batch[0].id}"
                self._outside.log.exception("%s cannot be taken; trying again later", name)
                return
            self._outside.log.info("%d events are taken one by one: %s", len(batch), error)
            for stored in batch:
                await self._take_each([stored])

    async def _take(self, batch: Sequence[StoredEvent], *, alone: bool) -> None:
        log, events = self._outside.log, [stored.event for stored in batch]
        what = _name(events[0]) if alone else f"{len(batch)} events"
        try:
            await insist(lambda: self._outside.arrived(events), what, log)
        except Exception as error:
            if is_passing(error) or not alone:
                raise
            # The job can still tell what is wrong with the run.
            log.exception("%s: its row could not be made", what)
        backend = self._outside.settings().noncluster_backend
        jobs = await insist(lambda: self._queue.take_all(batch, backend), what, log)
        for event, job in zip(events, jobs, strict=True):
            log.info("%s arrived (%s): %s", _name(event), event.source, job.name)
        await self._queued(jobs)


def _name(event: MigrationEvent) -> str:
    return f"{event.data} data of run {event.run}"
