"""Starts jobs: as many as there are slots, while there is memory, unless the context is broken."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ctxlib import claim
from ctxlib.job_folder import attempts
from ctxlib.memory import parse_memory
from daemon.backends import ContextBroken
from daemon.jobs import folder
from daemon.jobs.follower import Follower, broken_context
from daemon.jobs.job import LOCAL, Job
from daemon.jobs.outside import Outside
from daemon.jobs.queue import Queue
from daemon.jobs.trouble import concerns_all, insist

LOOK_SECONDS = 1.0
"""How often to look whether what holds jobs up is over."""
IDLE_SECONDS = 5.0
"""How often to look for a job that may start, when there are some and none may."""
HOLD_SECONDS = 30.0
"""After how long one job is tried although nothing has changed."""
TROUBLE_SECONDS = 5.0
"""The same when the host or its disks are in trouble, which nothing tells the end of."""

Signature = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class _Hold:
    """Nothing starts, because of `why`, until `until` or until the Python files have changed.

    `broken` are the problems of the context file if these are why.
    """

    why: str
    until: float
    sources: Path | None
    signature: Signature | None
    broken: list[dict[str, Any]] | None


class Dispatcher:
    """Hands jobs to the manager, one after the other; `begun` is called with those that run."""

    def __init__(
        self,
        queue: Queue,
        outside: Outside,
        *,
        at_work: Callable[[], int],
        begun: Callable[[Follower], None],
        lost: Callable[[Job, str], Awaitable[None]],
    ) -> None:
        """`at_work` counts the jobs at work; `lost` is told of those that could not be started."""
        self._queue = queue
        self._outside = outside
        self._at_work = at_work
        self._begun = begun
        self._lost = lost
        self._news = asyncio.Event()
        self._hold: _Hold | None = None
        self._explained: tuple[str, set[str]] = ("", set())
        self._short_of_memory = ""

    @property
    def waiting(self) -> str | None:
        """Why queued jobs do not start, if something is in the way of all of them."""
        return self._hold.why if self._hold is not None else self._short_of_memory or None

    @property
    def broken(self) -> list[dict[str, Any]] | None:
        """The problems of the context file that all jobs wait for, if they do."""
        return None if self._hold is None else self._hold.broken

    def try_again(self) -> None:
        """The context file was mended, which may not show in the files beside it."""
        if self._hold is not None and self._hold.broken is not None:
            self._hold = replace(self._hold, until=self._outside.clock())
            self.wake()

    def wake(self) -> None:
        """There may be something to start."""
        self._news.set()

    async def run(self) -> None:
        """Start jobs as they can be started, for ever."""
        while True:
            self._news.clear()
            try:
                pause = await self._start_next()
            except Exception:
                self._outside.log.exception("no job could be started")
                pause = HOLD_SECONDS
            if pause != 0.0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._news.wait()

    async def _start_next(self) -> float | None:
        """Start a job; after how many seconds to try the next (None: with the next news)."""
        settings = self._outside.settings()
        if self._at_work() >= settings.local_jobs:
            return None
        due = await insist(self._queue.next_due, "reading the queue", self._outside.log)
        if due is None:
            self._short_of_memory = ""
            return await self._hold_nothing()
        if self._hold is not None and not await self._is_over(self._hold):
            return LOOK_SECONDS
        free = self._outside.free_memory()
        if free <= parse_memory(settings.memory_reserve):
            self._short_of_memory = (
                f"{free / 2**30:.1f} GB of memory are free, memory_reserve is "
                f"{settings.memory_reserve}"
            )
            return LOOK_SECONDS
        self._short_of_memory = ""
        job = await insist(self._queue.claim, "reading the queue", self._outside.log)
        if job is None:
            left = due - self._outside.now()
            return min(left, IDLE_SECONDS) if left > 0 else IDLE_SECONDS
        try:
            await self._start(job)
        except Exception as error:
            self._outside.log.exception("%s could not be started", job.name)
            await self._lost(job, f"it could not be started: {error}")
        return 0.0

    async def _start(self, job: Job) -> None:
        outside, attempt = self._outside, self._attempt(job)
        request: Mapping[str, Any] = {}
        signature: Signature | None = None
        try:
            request, signature = await asyncio.to_thread(self._prepare, job, attempt)
            handle = await outside.manager.submit(attempt)
        except Exception as error:
            if await asyncio.to_thread(self._has_begun, attempt):
                handle = str(attempt)
            elif isinstance(error, ContextBroken):
                await self._not_now(attempt)
                why, broken = broken_context(request, error.problems), error.problems
                await self.hold(job, request, why, signature, ran=False, broken=broken)
                return
            elif await concerns_all(error, (attempt.parent.parent, outside.folder)):
                await self._not_now(attempt)
                await self.hold(job, request, f"jobs cannot be started: {error}", ran=False)
                return
            else:
                raise
        await self._release()
        outside.loads(True)
        follower = await self._follower(job, attempt, request, handle)
        outside.publish(job.update())
        self._begun(follower)

    def _has_begun(self, attempt: Path) -> bool:
        """In a thread, after a submission that went wrong: from now on it has, or never will."""
        try:
            return attempt.exists() and not self._outside.revoke(attempt)
        except OSError:
            return claim.exists(attempt)  # on a full disk: nobody can claim it either

    async def _follower(
        self, job: Job, attempt: Path, request: Mapping[str, Any], handle: str
    ) -> Follower:
        if handle != str(attempt):
            save = self._queue.save_handle
            await insist(lambda: save(job, handle), job.name, self._outside.log)
        return Follower(
            *(job, attempt, request, handle), queue=self._queue, outside=self._outside, offsets={}
        )

    def _prepare(self, job: Job, attempt: Path) -> tuple[Mapping[str, Any], Signature | None]:
        """In a thread: job.json and the attempt's folder; the request and the context's state."""
        job_folder = attempt.parent
        folder.set_aside(job_folder, job.first_attempt)
        # A job that has begun keeps its request: it goes on from results that belong to that.
        request: Mapping[str, Any] | None = None
        if attempts(job_folder):
            request = folder.read_request(job_folder)
        if request is None:
            request = self._outside.request(job)
            folder.write_request(job_folder, request)
        elif request.get("backend", LOCAL) != job.backend:
            # Whoever began with it is gone, and another one goes on.
            request = {**request, "backend": job.backend}
            folder.write_request(job_folder, request)
        signature = _signature(_sources(request))
        folder.new_attempt(job_folder, job.attempt)
        return request, signature

    async def _not_now(self, attempt: Path) -> None:
        """Remove the attempt's folder, so that the job is as it was before."""
        try:
            await asyncio.to_thread(folder.remove_attempt, attempt)
        except OSError as error:
            self._outside.log.warning("%s stays: %s", attempt, error)

    def _attempt(self, job: Job) -> Path:
        return folder.attempt_folder(self._outside.job_folder(job.id), job.attempt)

    # What holds everything up

    async def hold(
        self,
        job: Job,
        request: Mapping[str, Any],
        why: str,
        signature: Signature | None = None,
        *,
        ran: bool,
        broken: list[dict[str, Any]] | None = None,
    ) -> None:
        """Give `job` back and start nothing until `why` may be over; all who wait are told.

        `broken` are the problems of the context file if these are why.
        """
        log = self._outside.log
        if broken is not None:
            self._outside.loads(False)
        if self._hold is None or self._hold.why != why:
            log.error("%s; jobs wait until that has changed", why)
        seconds = HOLD_SECONDS if broken is not None else min(HOLD_SECONDS, TROUBLE_SECONDS)
        until, sources = self._outside.clock() + seconds, _sources(request)
        if signature is None:
            signature = await asyncio.to_thread(_signature, sources)
        self._hold = _Hold(why, until, sources, signature, broken)
        await insist(lambda: self._queue.give_back(job, why, ran=ran), job.name, log)
        held = await self._queue.get(job.id)
        await self._explain([held])
        await self.tell_waiting()

    async def tell_waiting(self) -> None:
        """Tell live jobs that were queued since why they do not start."""
        hold = self._hold
        if hold is not None:
            waiting = await insist(
                lambda: self._queue.hold_back(hold.why), "the queue", self._outside.log
            )
            await self._explain(waiting)

    async def _explain(self, jobs: list[Job]) -> None:
        hold = self._hold
        if hold is None:
            return
        if self._explained[0] != hold.why:
            self._explained = (hold.why, set())
        for job in jobs:
            if job.id not in self._explained[1]:
                self._explained[1].add(job.id)
                await self._outside.tell_row(job, hold.why)
                job = await self._queue.get(job.id)
                self._outside.publish(job.update())

    async def _is_over(self, hold: _Hold) -> bool:
        if self._outside.clock() >= hold.until or hold.signature is None:
            return self._outside.clock() >= hold.until
        return await asyncio.to_thread(_signature, hold.sources) != hold.signature

    async def _hold_nothing(self) -> float | None:
        """No job waits any more; when to look whether what they waited for is over (None: it is).

        Not before: a job that is just being given back has to find why.
        """
        if self._hold is None or await self._is_over(self._hold):
            self._hold = None
            return None
        return LOOK_SECONDS

    async def _release(self) -> None:
        if self._hold is not None:
            self._outside.log.info("jobs start again")
            self._hold = None
            self._explained = ("", set())
            await insist(lambda: self._queue.hold_back(""), "the queue", self._outside.log)


def _sources(request: Mapping[str, Any]) -> Path | None:
    return Path(str(request["context"])).parent if "context" in request else None


def _signature(sources: Path | None) -> Signature | None:
    """The state of the Python files beside the context; None when they cannot be read."""
    try:
        return None if sources is None else folder.sources_signature(sources)
    except OSError:
        return None
