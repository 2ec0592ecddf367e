"""Gets jobs done: the parts of this room put together, and what becomes of each attempt."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from daemon.events.inbox import Inbox
from daemon.jobs.dispatcher import Dispatcher
from daemon.jobs.finisher import Finisher
from daemon.jobs.folder import attempt_folder
from daemon.jobs.follower import Follower, Outcome
from daemon.jobs.intake import Intake
from daemon.jobs.job import SUBMISSION, Job, Work
from daemon.jobs.outside import Outside
from daemon.jobs.queue import Queue, cluster_id
from daemon.jobs.recovery import Recovery
from daemon.jobs.states import TERMINAL, Refused, State, Who
from daemon.jobs.submitted import Submitted
from daemon.jobs.trouble import insist

STOPPED_BY_OTHERS = "it was stopped, but not by this daemon"
END_SECONDS = 10.0
"""How long an attempt that was told to end may take for that before it is ended by force."""
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
        self._poll_seconds = poll_seconds
        self._followers: dict[str, tuple[Follower, asyncio.Task[None]]] = {}
        self._busy = asyncio.Event()
        self._finisher = Finisher(queue, self._outside, queued=self.reconsider)
        self._dispatcher = Dispatcher(
            queue,
            self._outside,
            at_work=lambda: len(self._followers),
            begun=self._follow,
            lost=self._not_started,
        )
        self._intake = Intake(inbox, queue, self._outside, self._queued)
        self._submitted = Submitted(queue, inbox, self._outside, begun=self._follow)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Take up what an earlier daemon left, then take new work."""
        recovery = Recovery(self._queue, self._outside, begun=self._follow, lost=self._lost)
        # Before anything that is under way can end: of one run, what ended first is combined first.
        for job in await insist(self._queue.to_combine, "reading the queue", self._outside.log):
            await self._end_orphan(job)
            self._finisher.add(job)
        await self._submitted.recover()
        await recovery.recover()
        # What takes work comes first, for `stop` to end it first.
        taking = (self._intake.run, self._dispatcher.run, self._submitted.run)
        parts = (*taking, self._poll, self._finisher.keep_clean)
        self._tasks = [asyncio.create_task(part()) for part in parts]

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
        if self._followers:
            followed = list(self._followers.values())
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
            if job.id not in self._followers:
                self._finisher.add(job)  # earlier attempts may have left results
        else:
            self._outside.publish(job.update())
        self._dispatcher.wake()

    def wake(self, job_id: str) -> None:
        """There may be something to read in the folder of this job."""
        if job_id in self._followers:
            self._followers[job_id][0].wake()

    def reconsider(self) -> None:
        """Jobs were queued, or settings have changed: perhaps more may start."""
        self._dispatcher.wake()

    @property
    def waiting(self) -> str | None:
        """Why queued jobs do not start, if something is in the way of all of them."""
        return self._dispatcher.waiting

    @property
    def broken(self) -> list[dict[str, Any]] | None:
        """The problems of the context file that all jobs wait for, if they do."""
        return self._dispatcher.broken

    def try_again(self) -> None:
        """The context file was mended: the jobs that wait for that are tried."""
        self._dispatcher.try_again()

    def running(self) -> list[dict[str, Any]]:
        """The jobs at work: job, proposal, run, data, variable, done, total, since."""
        return [follower.describe() for follower, _ in self._followers.values()]

    async def _queued(self, job: Job) -> None:
        self._outside.publish(job.update())
        await self._dispatcher.tell_waiting()
        self._dispatcher.wake()

    # Attempts

    def _follow(self, follower: Follower) -> None:
        task = asyncio.create_task(self._follow_to_the_end(follower))
        self._followers[follower.job.id] = (follower, task)
        self._busy.set()

    async def _follow_to_the_end(self, follower: Follower) -> None:
        job, log = follower.job, self._outside.log
        try:
            outcome = await follower.follow()
            await self._conclude(follower, outcome)
        except Refused as error:
            # An operator was faster; what they decided holds.
            log.warning("%s: %s; its attempt %d is left", job.name, error, job.attempt)
            await self._give_up(follower, str(error))
        except Exception as error:
            log.exception("%s cannot be followed", job.name)
            await self._give_up(follower, f"{type(error).__name__}: {error}")
        finally:
            del self._followers[job.id]
            self._dispatcher.wake()

    async def _conclude(self, follower: Follower, outcome: Outcome) -> None:
        job = follower.job
        if outcome.how == "stopped":
            stored = await self._queue.get(job.id)
            if stored.state is not State.STOP_REQUESTED:
                await self._lost(job, f"{STOPPED_BY_OTHERS}: {outcome.reason}")
                return
        if outcome.how == "lost":
            await self._lost(job, outcome.reason)
        elif outcome.how == "broken":
            await self._dispatcher.hold(
                *(job, follower.request, outcome.reason), ran=outcome.ran, broken=outcome.problems
            )
        else:
            await self._ended(job, outcome)

    async def _ended(self, job: Job, outcome: Outcome) -> None:
        finish = partial(
            self._queue.finish,
            *(job, State(outcome.how), outcome.reason),
            offsets=outcome.offsets,
            cluster=outcome.cluster,
            by=outcome.by,
        )
        ended = await insist(finish, job.name, self._outside.log)
        if outcome.cluster:
            self._outside.publish((await self._queue.get(cluster_id(job))).update())
        if ended.state is State.FAILED:
            self._outside.log.error("%s failed: %s", job.name, ended.reason)
        self._finisher.add(ended)

    async def _lost(self, job: Job, why: str) -> None:
        """The attempt of `job` came to nothing: another one follows, or it was the last."""
        log, most = self._outside.log, self._outside.settings().max_attempts
        if job.source == SUBMISSION:
            most = 1  # nobody here can do it again
        lose = partial(self._queue.lose, job, why, max_attempts=most)
        state = await insist(lose, job.name, log)
        log.warning("%s: attempt %d was lost: %s", job.name, job.attempt, why)
        left = await self._queue.get(job.id)
        if state is State.FAILED:
            log.error("%s failed: %s", job.name, left.reason)
            await self._outside.tell_row(left, left.reason)
            self._finisher.add(left)
        else:
            self._outside.publish(left.update())
        self._dispatcher.wake()

    async def _not_started(self, job: Job, why: str) -> None:
        """The attempt of `job` could not be started."""
        try:
            await self._lost(job, why)
        except Refused as error:
            # An operator was faster; what they decided holds.
            self._outside.log.warning("%s: %s", job.name, error)

    async def _give_up(self, follower: Follower, why: str) -> None:
        """An attempt cannot be followed: it is ended, and its job fails with `why`."""
        job, log = follower.job, self._outside.log
        try:
            await self._end(follower.handle, why)
            stored = await self._queue.get(job.id)
            if stored.state not in TERMINAL and stored.attempt == job.attempt:
                outcome = Outcome("failed", f"it could not be followed: {why}", {})
                await self._ended(job, outcome)
                await self._outside.tell_row(job, outcome.reason)
            elif stored.state in TERMINAL:
                self._finisher.add(stored)
        except Exception:
            log.exception("%s: the next start finds out what became of it", job.name)

    async def _end_orphan(self, job: Job) -> None:
        """End an attempt that is at work although an operator has given its job up.

        The daemon that should have ended it was killed in between.
        """
        attempt = attempt_folder(self._outside.job_folder(job.id), job.attempt)
        if job.state is State.FAILED and attempt.is_dir():
            try:
                handle, _ = await self._queue.progress(job)
                await self._end(handle or str(attempt), job.reason)
            except Exception:
                self._outside.log.exception("%s: what is left of it cannot be ended", job.name)

    async def _end(self, handle: str, why: str) -> None:
        """Have an attempt ended; it has when this returns, so that another one may follow."""
        manager = self._outside.manager
        if (await manager.poll([handle]))[handle].state != "running":
            return
        await manager.cancel(handle, why)
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                while (await manager.poll([handle]))[handle].state == "running":
                    await asyncio.sleep(self._poll_seconds / 10)
                return
        await manager.fence(handle, why)

    async def _poll(self) -> None:
        """Ask the manager about all attempts at work now and then, as nobody else may tell."""
        told = ""
        while True:
            if not self._followers:
                self._busy.clear()
                await self._busy.wait()
            await asyncio.sleep(self._poll_seconds)
            followers = {f.handle: f for f, _ in self._followers.values()}
            try:
                answers = await self._outside.manager.poll(list(followers))
                told = ""
            except Exception as error:
                answers = {}
                if told != str(error):
                    told = str(error)
                    self._outside.log.exception("the manager cannot say how its jobs are")
            for handle, follower in followers.items():
                if handle in answers:
                    follower.note(answers[handle])
                else:
                    follower.wake()


async def _cancel(tasks: Sequence[asyncio.Task[None]] | set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
