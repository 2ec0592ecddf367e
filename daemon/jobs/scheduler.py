"""Gets jobs done: the parts of this room put together."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any

from daemon.events.inbox import Inbox
from daemon.jobs import strays
from daemon.jobs.attempts import Attempts
from daemon.jobs.dispatcher import Dispatcher
from daemon.jobs.finisher import Finisher
from daemon.jobs.folder import attempt_folder
from daemon.jobs.follower import Follower, Outcome
from daemon.jobs.intake import Intake
from daemon.jobs.job import Job, Work
from daemon.jobs.outside import Outside
from daemon.jobs.queue import Queue
from daemon.jobs.recovery import Recovery
from daemon.jobs.states import TERMINAL, Refused, State, Who
from daemon.jobs.submitted import Submitted
from daemon.jobs.trouble import insist

LAST_SECONDS = 5.0
"""How long a stop waits for run files that are being made, beyond its grace."""


class Scheduler:
    """Takes events and works, and has them done. Call `start`, and `stop` in the end.

    After a `stop` everything is on disk, for the next `start` to go on from.
    """

    def __init__(
        self,
        queue: Queue,
        inbox: Inbox,
        outside: Outside,
        *,
        poll_seconds: float = 1.0,
    ) -> None:
        """Put the parts together; `poll_seconds` is how often the manager is asked."""
        self._queue = queue
        self._outside = outside
        self._finisher = Finisher(queue, self._outside, queued=self.reconsider)
        self._attempts = Attempts(
            queue,
            self._outside,
            self._finisher,
            broken=self._broken,
            changed=self.reconsider,
            poll_seconds=poll_seconds,
        )
        self._dispatcher = Dispatcher(
            queue,
            self._outside,
            at_work=self._attempts.by_backend,
            begun=self._attempts.follow,
            lost=self._attempts.not_started,
        )
        self._intake = Intake(inbox, queue, self._outside, self._queued)
        self._submitted = Submitted(queue, inbox, self._outside, begun=self._attempts.follow)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Take up what an earlier daemon left, then take new work."""
        attempts = self._attempts
        recovery = Recovery(self._queue, self._outside, begun=attempts.follow, lost=attempts.lost)
        # Before anything that is under way can end: of one run, what ended first is combined first.
        for job in await insist(self._queue.to_combine, "reading the queue", self._outside.log):
            if not await recovery.see_out(job):
                await attempts.end_orphan(job)
                self._finisher.add(job)
        await self._submitted.recover()
        await strays.adopt(self._queue, self._outside)
        await recovery.recover()
        # What takes work comes first, for `stop` to end it first.
        taking = (self._intake.run, self._dispatcher.run, self._submitted.run)
        parts = (*taking, attempts.poll, self._finisher.keep_clean)
        self._tasks = [asyncio.create_task(part()) for part in parts]

    @property
    def parts(self) -> Sequence[asyncio.Task[None]]:
        """What works as long as the scheduler does: one that has ended will never go on."""
        return self._tasks

    async def stop(
        self, grace: float | None = None, *, waits_for: Callable[[Job], bool] | None = None
    ) -> None:
        """Take no more work, give what runs `grace` seconds to end, and leave the rest as it is.

        `grace` is the setting `stop_grace` unless given; of all jobs only those get it that
        `waits_for` picks, if it is given. What still runs goes on by itself.
        """
        loop = asyncio.get_running_loop()
        grace = self._outside.settings().stop_grace if grace is None else grace
        deadline = loop.time() + grace
        taking, others = self._tasks[:3], self._tasks[3:]
        await _cancel(taking)
        if self._attempts.followers:
            followed = list(self._attempts.followers.values())
            picked = [t for f, t in followed if waits_for is None or waits_for(f.job)]
            if picked:
                await asyncio.wait(picked, timeout=grace)
            await _cancel([task for _, task in followed])
        finishing = set(self._finisher.tasks)
        if finishing:
            left = max(deadline - loop.time(), LAST_SECONDS)
            await asyncio.wait(finishing, timeout=left)
            await _cancel(finishing)
        await _cancel(others)
        if others:
            await self._finisher.clean()
        self._tasks = []

    async def submit(self, works: Sequence[Work], *, at_once: int | None = None) -> list[Job]:
        """Queue works in the order given, all or none; at most `at_once` of them run at once."""
        jobs = await self._queue.create(works, at_once=at_once)
        for job in jobs:
            self._outside.publish(job.update())
        self._dispatcher.wake()
        return jobs

    async def take_back(self, job: Job, why: str) -> bool:
        """Cancel a job that nobody has begun with; False when somebody has, or it has ended."""
        if job.state is State.DISPATCHED:
            attempt = attempt_folder(self._outside.job_folder(job.id), job.attempt)
            try:
                if not await asyncio.to_thread(self._outside.revoke, attempt):
                    return False
            except FileNotFoundError:
                return False  # it is just being handed over
        elif job.state is not State.QUEUED:
            return False
        try:
            await self._queue.transition(job, State.CANCELED, Who.SERVER, why)
        except Refused:
            return False  # somebody was faster
        self._outside.log.info("%s canceled: %s", job.name, why)
        self.changed(await self._queue.get(job.id))
        return True

    async def end_attempt(self, job: Job, why: str) -> None:
        """Have all processes of the present attempt of `job` ended; its follower sees the end."""
        handle, _ = await self._queue.progress(job)
        attempt = attempt_folder(self._outside.job_folder(job.id), job.attempt)
        await self._outside.manager.cancel(handle or str(attempt), why)

    def changed(self, job: Job) -> None:
        """Somebody else has changed the state of `job`, and this is how it is now."""
        if job.state in TERMINAL and not job.settled:
            if job.id not in self._attempts.followers:
                self._finisher.add(job)  # earlier attempts may have left results
        else:
            self._outside.publish(job.update())
        self._dispatcher.wake()

    def wake(self, job_id: str) -> None:
        """There may be something to read in the folder of this job."""
        if job_id in self._attempts.followers:
            self._attempts.followers[job_id][0].wake()

    def reconsider(self) -> None:
        """Jobs were queued, or settings have changed: perhaps more may start."""
        self._dispatcher.wake()

    @property
    def waiting(self) -> str | None:
        """What is in the way of all queued jobs, or of results that are to be written."""
        found = filter(None, (self._dispatcher.waiting, self._finisher.waiting))
        return "; ".join(found) or None

    @property
    def broken(self) -> list[dict[str, Any]] | None:
        """The problems of the context file that all jobs wait for, if they do."""
        return self._dispatcher.broken

    def try_again(self) -> None:
        """The context file was mended: the jobs that wait for that are tried."""
        self._dispatcher.try_again()

    def running(self) -> list[dict[str, Any]]:
        """The jobs that a backend has, as `Follower.describe` gives them."""
        return [follower.describe() for follower, _ in self._attempts.followers.values()]

    def waits(self, jobs: Collection[str]) -> list[dict[str, Any]]:
        """What those of `jobs` wait for that a backend has and nobody has begun, as updates."""
        followers = (follower for follower, _ in self._attempts.followers.values())
        return [f.waits() for f in followers if f.job.id in jobs and f.is_waiting]

    async def _queued(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._outside.publish(job.update())
        await self._dispatcher.tell_waiting()
        self._dispatcher.wake()

    async def _broken(self, follower: Follower, outcome: Outcome) -> None:
        await self._dispatcher.hold(
            *(follower.job, follower.request, outcome.reason),
            ran=outcome.ran,
            broken=outcome.problems,
        )


async def _cancel(tasks: Sequence[asyncio.Task[None]] | set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
