"""Starts jobs: as many as each backend has room for, unless the context is broken."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ctxlib import claim
from ctxlib.job_folder import attempts
from daemon.backends import ContextBroken, Unavailable
from daemon.backends.configurations.errors import ConfigurationError
from daemon.jobs import folder
from daemon.jobs.follower import Follower, broken_context
from daemon.jobs.holds import HOLD_SECONDS, Holds, Signature, signature_of
from daemon.jobs.job import LOCAL, Job
from daemon.jobs.outside import Outside
from daemon.jobs.queue import Queue
from daemon.jobs.trouble import concerns_all, insist

LOOK_SECONDS = 1.0
"""How often to look whether what holds jobs up is over."""
PATIENCE_SECONDS = 1.0
"""What takes longer to start, as its context is loaded, goes on beside jobs of other backends."""
IDLE_SECONDS = 5.0
"""How often to look for a job that may start, when there are some and none may."""
WHERE = ("backend", "configuration", "cpus", "memory", "timeout")
"""What of a request says where and under which limits its job runs."""


class Dispatcher:
    """Hands jobs to the manager, those of each backend one after the other.

    `begun` is called with those that run.
    """

    def __init__(
        self,
        queue: Queue,
        outside: Outside,
        *,
        at_work: Callable[[], Mapping[str, int]],
        begun: Callable[[Follower], None],
        lost: Callable[[Job, str], Awaitable[None]],
    ) -> None:
        """`at_work` counts the jobs at work on each backend.

        `lost` is told of those that could not be started.
        """
        self._queue = queue
        self._outside = outside
        self._at_work = at_work
        self._begun = begun
        self._lost = lost
        self._news = asyncio.Event()
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._holds = Holds(queue, outside)

    @property
    def waiting(self) -> str | None:
        """Why queued jobs do not start, if something is in the way of them."""
        return self._holds.waiting

    @property
    def broken(self) -> list[dict[str, Any]] | None:
        """The problems of the context file that all jobs wait for, if they do."""
        return self._holds.broken

    def try_again(self) -> None:
        """The context file was mended, which may not show in the files beside it."""
        if self._holds.try_again():
            self.wake()

    def wake(self) -> None:
        """There may be something to start."""
        self._news.set()

    async def run(self) -> None:
        """Start jobs as they can be started, for ever."""
        try:
            await self._start_all()
        finally:
            starting, self._starting = list(self._starting.values()), {}
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)

    async def _start_all(self) -> None:
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
        log = self._outside.log
        self._forget_started()
        backends = await insist(self._queue.waiting_for, "reading the queue", log)
        if not backends:
            return None if await self._holds.nobody_waits() else LOOK_SECONDS
        if await self._holds.everything_waits():
            return LOOK_SECONDS
        # What is just being started counts already: others may share its machine.
        starting = [name for name, task in self._starting.items() if not task.done()]
        at_work = Counter(self._at_work()) + Counter(starting)
        free = [name for name in backends if name not in self._starting]
        rooms = {name: await self._room(name, at_work) for name in free}
        able = [name for name, room in rooms.items() if room]
        held = None in rooms.values()
        if not able:
            return LOOK_SECONDS if held else None
        job = await insist(lambda: self._queue.claim(able), "reading the queue", log)
        if job is None:
            due = await insist(self._queue.next_due, "reading the queue", log)
            left = 0.0 if due is None else due - self._outside.now()
            pause = min(left, IDLE_SECONDS) if left > 0 else IDLE_SECONDS
            return min(pause, LOOK_SECONDS) if held else pause
        task = self._starting[job.backend] = asyncio.create_task(self._try(job))
        task.add_done_callback(lambda _: self.wake())
        await asyncio.wait([task], timeout=PATIENCE_SECONDS)
        return 0.0

    def _forget_started(self) -> None:
        """Let go of what has been started; raises what came of it beyond that it was not."""
        for backend, task in list(self._starting.items()):
            if task.done():
                del self._starting[backend]
                task.result()

    async def _try(self, job: Job) -> None:
        try:
            await self._start(job)
        except Exception as error:
            self._outside.log.exception("%s could not be started", job.name)
            await self._lost(job, f"it could not be started: {error}")

    async def _room(self, backend: str, at_work: Mapping[str, int]) -> bool | None:
        """Whether a backend takes a job; None: not now, for a reason that may pass."""
        if self._holds.waits(backend):
            return None
        try:
            room = await self._outside.manager.room(backend, at_work)
        except Unavailable as error:
            self._holds.short(backend, str(error))
            return None
        except Exception as error:  # noqa: BLE001 - a package's own manager, a file of a user's
            await self._holds.on_backend(backend, str(error), LOOK_SECONDS)
            return None
        self._holds.short(backend, None)
        return room > 0

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
                why = broken_context(request, error.problems)
                await self._take_back(job, attempt, why)
                await self._hold_all(request, why, signature, error.problems)
                return
            elif isinstance(error, Unavailable | ConfigurationError):
                await self._take_back(job, attempt, f"backend {job.backend}: {error}")
                await self._holds.on_backend(job.backend, str(error))
                return
            elif await concerns_all(error, (attempt.parent.parent, outside.folder)):
                why = f"jobs cannot be started: {error}"
                await self._take_back(job, attempt, why)
                await self._hold_all(request, why)
                return
            else:
                raise
        await self._holds.release(job.backend)
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
            now = self._outside.request(job)
            request = {**request, **{name: now[name] for name in WHERE}}
            folder.write_request(job_folder, request)
        signature = signature_of(_sources(request))
        folder.new_attempt(job_folder, job.attempt)
        return request, signature

    async def _take_back(self, job: Job, attempt: Path, why: str) -> None:
        """Remove the attempt's folder, so that the job is as it was before, and waits for `why`."""
        queue, log = self._queue, self._outside.log
        try:
            await asyncio.to_thread(folder.remove_attempt, attempt)
        except OSError as error:
            # The next attempt needs another number, as this one is not free.
            log.warning("%s stays: %s", attempt, error)
            await insist(lambda: queue.give_back(job, why, ran=False), job.name, log)
        else:
            await insist(lambda: queue.take_back(job, why), job.name, log)
        await self._holds.explain([await queue.get(job.id)], why)

    def _attempt(self, job: Job) -> Path:
        return folder.attempt_folder(self._outside.job_folder(job.id), job.attempt)

    async def hold(
        self,
        job: Job,
        request: Mapping[str, Any],
        why: str,
        *,
        ran: bool,
        broken: list[dict[str, Any]] | None,
    ) -> None:
        """Give `job` back, whose attempt has come to `why`, and start nothing until that is over.

        All who wait are told; `broken` are the problems of the context file if these are why.
        """
        give_back = self._queue.give_back
        await self._hold_all(request, why, broken=broken)  # before it could be claimed again
        await insist(lambda: give_back(job, why, ran=ran), job.name, self._outside.log)
        await self._holds.explain([await self._queue.get(job.id)], why)

    async def _hold_all(
        self,
        request: Mapping[str, Any],
        why: str,
        signature: Signature | None = None,
        broken: list[dict[str, Any]] | None = None,
    ) -> None:
        if broken is not None:
            self._outside.loads(False)
        await self._holds.on_everything(why, _sources(request), signature, broken)
        await self.tell_waiting()

    async def tell_waiting(self) -> None:
        """Tell jobs that were queued since why they do not start."""
        await self._holds.tell_waiting()


def _sources(request: Mapping[str, Any]) -> Path | None:
    return Path(str(request["context"])).parent if "context" in request else None
