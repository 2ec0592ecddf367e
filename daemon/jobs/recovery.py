"""What a start makes of the jobs that an earlier daemon had under way."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from ctxlib import claim
from daemon.jobs import folder
from daemon.jobs.follower import Follower
from daemon.jobs.job import SUBMISSION, Job
from daemon.jobs.outside import Outside
from daemon.jobs.queue import Queue
from daemon.jobs.states import State
from daemon.jobs.trouble import insist

NEVER_BEGAN = "an earlier daemon ended before it began"


class Recovery:
    """Finds out about each job under way, one by one: what is wrong with one is its own trouble."""

    def __init__(
        self,
        queue: Queue,
        outside: Outside,
        *,
        begun: Callable[[Follower], None],
        lost: Callable[[Job, str], Awaitable[None]],
    ) -> None:
        """`begun` takes those that are to be followed, `lost` those that nobody is at work on."""
        self._queue = queue
        self._outside = outside
        self._begun = begun
        self._lost = lost

    async def recover(self) -> None:
        """Take up again what is under way; what never began is queued as it was."""
        log = self._outside.log
        await insist(self._queue.cancel_unreadable, "reading the queue", log)
        for job in await insist(self._queue.active, "reading the queue", log):
            try:
                await self._take_up(job)
            except Exception as error:
                log.exception("%s cannot be taken up again", job.name)
                await self._lost(job, f"it cannot be taken up again: {error}")
        # What jobs waited for may be over; it is found out anew.
        await insist(lambda: self._queue.hold_back(""), "the queue", log)

    async def see_out(self, job: Job) -> bool:
        """Follow an attempt that was taken back until its backend has let go of it as well.

        Whoever should have seen to that may have been killed before. False: no backend has it.
        """
        attempt = folder.attempt_folder(self._outside.job_folder(job.id), job.attempt)
        handle, offsets = await self._queue.progress(job)
        if job.state is not State.CANCELED or handle is None or not attempt.is_dir():
            return False
        try:
            await self._follow(job, attempt, handle, offsets)
        except Exception:
            self._outside.log.exception("%s: what is left of it cannot be followed", job.name)
            return False
        return True

    async def _take_up(self, job: Job) -> None:
        job_folder = self._outside.job_folder(job.id)
        attempt = folder.attempt_folder(job_folder, job.attempt)
        handle, offsets = await self._queue.progress(job)
        # One that waits elsewhere may not have begun: its manager knows it by a handle of its own.
        here = job.state is State.DISPATCHED and handle is None
        if here and await asyncio.to_thread(self._never_began, attempt):
            if job.source == SUBMISSION:
                await self._lost(job, "the folder that was submitted is gone")
                return
            await self._queue.give_back(job, NEVER_BEGAN, ran=False)
            return
        if job.state is State.STOP_REQUESTED:
            # Whoever was asked to stop it may have been killed before they did.
            await self._outside.manager.cancel(handle or str(attempt), await self._why(job))
        self._outside.log.info("%s: taking up attempt %d again", job.name, job.attempt)
        await self._follow(job, attempt, handle or str(attempt), offsets)

    async def _follow(
        self, job: Job, attempt: Path, handle: str, offsets: Mapping[str, int]
    ) -> None:
        request = await asyncio.to_thread(self._request, job)
        self._begun(
            Follower(
                *(job, attempt, request, handle),
                queue=self._queue,
                outside=self._outside,
                offsets=offsets,
            )
        )

    async def _why(self, job: Job) -> str:
        """Why the job has its present state."""
        changes = [row for row in await self._queue.history(job.id) if row["was"] != row["became"]]
        return str(changes[-1]["why"])

    def _request(self, job: Job) -> dict[str, Any]:
        """In a thread: the content of job.json, which is written anew when it is not whole."""
        job_folder = self._outside.job_folder(job.id)
        request = folder.read_request(job_folder)
        if request is None:
            request = json.loads(json.dumps(self._outside.request(job)))
            folder.write_request(job_folder, request)
        return request

    def _never_began(self, attempt: Path) -> bool:
        """In a thread: see to it that an attempt without a claim can never begin."""
        if attempt.exists():
            if claim.exists(attempt) or not self._outside.revoke(attempt):
                return False
            folder.remove_attempt(attempt)
        return True
