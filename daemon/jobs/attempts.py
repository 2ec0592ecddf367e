"""The life of attempts once they have begun: each is followed, and what it came to is concluded."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

from daemon.backends.configurations.errors import ConfigurationError
from daemon.database import ReplacedError
from daemon.jobs.finisher import Finisher
from daemon.jobs.folder import attempt_folder
from daemon.jobs.follower import Follower, Outcome
from daemon.jobs.job import SUBMISSION, Job
from daemon.jobs.last_words import tell_variable
from daemon.jobs.outside import Outside
from daemon.jobs.parts import part_id
from daemon.jobs.queue import Queue
from daemon.jobs.states import TERMINAL, Refused, State
from daemon.jobs.trouble import insist

STOPPED_BY_OTHERS = "it was stopped, but not by this daemon"
END_SECONDS = 10.0
"""How long an attempt that was told to end may take for that before it is ended by force."""


class Attempts:
    """The attempts at work: `followers` has who follows each, and its task, by the job's id."""

    def __init__(
        self,
        queue: Queue,
        outside: Outside,
        finisher: Finisher,
        *,
        broken: Callable[[Follower, Outcome], Awaitable[None]],
        changed: Callable[[], None],
        poll_seconds: float,
    ) -> None:
        """`broken` is told of one whose context cannot be executed.

        `changed` is called when more may start; `poll_seconds` is how often the manager is asked.
        """
        self._queue = queue
        self._outside = outside
        self._finisher = finisher
        self._broken = broken
        self._changed = changed
        self._poll_seconds = poll_seconds
        self.followers: dict[str, tuple[Follower, asyncio.Task[None]]] = {}
        self._busy = asyncio.Event()
        self._told: dict[str, str] = {}

    def follow(self, follower: Follower) -> None:
        """Follow an attempt to its end, in a task of its own."""
        task = asyncio.create_task(self._follow_to_the_end(follower))
        self.followers[follower.job.id] = (follower, task)
        self._busy.set()

    async def _follow_to_the_end(self, follower: Follower) -> None:
        job, log = follower.job, self._outside.log
        try:
            outcome = await follower.follow()
            await self._conclude(follower, outcome)
        except ReplacedError:
            pass  # this daemon ends, and the next one takes the attempt up
        except Refused as error:
            # An operator was faster; what they decided holds.
            log.warning("%s: %s; its attempt %d is left", job.name, error, job.attempt)
            await self._give_up(follower, str(error))
        except Exception as error:
            log.exception("%s cannot be followed", job.name)
            await self._give_up(follower, f"{type(error).__name__}: {error}")
        finally:
            del self.followers[job.id]
            self._changed()

    async def _conclude(self, follower: Follower, outcome: Outcome) -> None:
        job = follower.job
        stored = await insist(lambda: self._queue.get(job.id), job.name, self._outside.log)
        if stored.state is State.CANCELED:
            self._finisher.add(stored)  # it was taken back, and nobody has it any more
            return
        if outcome.how in ("stopped", "broken"):
            stopping = stored.state is State.STOP_REQUESTED
            if outcome.how == "stopped" and not stopping:
                await self.lost(job, f"{STOPPED_BY_OTHERS}: {outcome.reason}")
                return
            if outcome.how == "broken" and stopping:
                outcome = replace(outcome, how="stopped")  # it cannot wait to be run again
        if outcome.how == "lost":
            await self.lost(job, outcome.reason)
        elif outcome.how == "broken":
            await self._broken(follower, outcome)
        else:
            await self._ended(job, outcome)

    async def _ended(self, job: Job, outcome: Outcome) -> None:
        finish = partial(
            self._queue.finish,
            *(job, State(outcome.how), outcome.reason),
            offsets=outcome.offsets,
            later=outcome.later,
            by=outcome.by,
            times=(outcome.began, outcome.ended),
        )
        ended = await insist(finish, job.name, self._outside.log)
        for later in outcome.later:
            following = await self._queue.get(part_id(job, later.part))
            self._outside.publish(following.update())
        if ended.state is State.FAILED:
            self._outside.log.error("%s failed: %s", job.name, ended.reason)
        else:
            why = f": {ended.reason}" if ended.reason else ""
            self._outside.log.info("%s %s%s", job.name, ended.state, why)
        self._finisher.add(ended)

    async def lost(self, job: Job, why: str) -> None:
        """The attempt of `job` came to nothing: another one follows, or it was the last."""
        log, most = self._outside.log, self._outside.settings().max_attempts
        if job.source == SUBMISSION or job.command is not None:
            most = 1  # nobody here can do it again; what a command has done already is not known
        lose = partial(self._queue.lose, job, why, max_attempts=most)
        state = await insist(lose, job.name, log)
        log.warning("%s: attempt %d was lost: %s", job.name, job.attempt, why)
        left = await self._queue.get(job.id)
        if state is State.FAILED:
            log.error("%s failed: %s", job.name, left.reason)
            await self._outside.tell_row(left, left.reason)
            await tell_variable(left, self._outside)
            self._finisher.add(left)
        else:
            self._outside.publish(left.update())
        self._changed()

    async def not_started(self, job: Job, why: str) -> None:
        """The attempt of `job` could not be started."""
        try:
            await self.lost(job, why)
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

    async def end_orphan(self, job: Job) -> None:
        """End an attempt that is at work although an operator has given its job up.

        The daemon that should have ended it was killed in between, or before it could tell what
        ran when the last attempt was lost.
        """
        attempt = attempt_folder(self._outside.job_folder(job.id), job.attempt)
        if job.state is State.FAILED and attempt.is_dir():
            try:
                handle, _ = await self._queue.progress(job)
                await self._end(handle or str(attempt), job.reason)
            except Exception:
                self._outside.log.exception("%s: what is left of it cannot be ended", job.name)
            await tell_variable(job, self._outside)

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

    def by_backend(self) -> Counter[str]:
        """How many are at work on each backend."""
        return Counter(follower.job.backend for follower, _ in self.followers.values())

    async def poll(self) -> None:
        """Ask the managers about all attempts now and then, for ever, as nobody else may tell."""
        asking: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                if not self.followers:
                    self._busy.clear()
                    await self._busy.wait()
                await asyncio.sleep(self._poll_seconds)
                handles = [follower.handle for follower, _ in self.followers.values()]
                for key, theirs in (await self._outside.manager.by_manager(handles)).items():
                    # One that takes long to answer delays nobody else's.
                    if key not in asking or asking[key].done():
                        asking[key] = asyncio.create_task(self._ask(key, theirs))
        finally:
            for task in asking.values():
                task.cancel()

    async def _ask(self, key: str, handles: list[str]) -> None:
        try:
            answers = await self._outside.manager.poll(handles)
            self._told.pop(key, None)
        except Exception as error:
            answers = {}
            if self._told.get(key) != str(error):
                self._told[key] = str(error)
                # What a configuration lacks is for people, not for whoever looks after the code.
                trace = not isinstance(error, ConfigurationError)
                words = "a manager cannot say how its jobs are: %s"
                self._outside.log.error(words, error, exc_info=trace)
        followers = {follower.handle: follower for follower, _ in self.followers.values()}
        for handle in handles:
            if handle not in followers:
                continue
            if handle in answers:
                followers[handle].note(answers[handle])
            else:
                followers[handle].wake()
