"""Turns events into jobs: the run's row first, then the job, each event on its own."""

from collections.abc import Awaitable, Callable

from daemon.events.inbox import Inbox, StoredEvent
from daemon.jobs.job import Job
from daemon.jobs.outside import Outside
from daemon.jobs.queue import Queue
from daemon.jobs.trouble import insist, is_passing

AGAIN_SECONDS = 30.0
"""How often events that could not be taken are tried again."""


class Intake:
    """Takes events out of the inbox; `queued` is called with each job that came of one."""

    def __init__(
        self,
        inbox: Inbox,
        queue: Queue,
        outside: Outside,
        queued: Callable[[Job], Awaitable[None]],
    ) -> None:
        """`outside.arrived` is called before the event becomes a job."""
        self._inbox = inbox
        self._queue = queue
        self._outside = outside
        self._queued = queued

    async def run(self) -> None:
        """Take events as they come, for ever."""
        log = self._outside.log
        while True:
            for stored in await insist(self._inbox.pending, "reading the inbox", log):
                try:
                    await self._take(stored)
                except Exception:
                    log.exception("event %d cannot be taken; trying again later", stored.id)
            await self._inbox.wait(AGAIN_SECONDS)

    async def _take(self, stored: StoredEvent) -> None:
        event, log = stored.event, self._outside.log
        what = f"{event.data} data of run {event.run}"
        try:
            await insist(lambda: self._outside.arrived(event), what, log)
        except Exception as error:
            if is_passing(error):
                raise
            # The job can still tell what is wrong with the run.
            log.exception("%s: its row could not be made", what)
        job = await insist(lambda: self._queue.take(stored), what, log)
        log.info("%s arrived (%s): %s", what, event.source, job.name)
        await self._queued(job)
