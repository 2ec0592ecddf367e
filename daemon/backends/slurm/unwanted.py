"""Cancels jobs in Slurm that nobody wants any more, as soon as Slurm hears."""

import asyncio
from contextlib import suppress

from daemon.backends.slurm.scheduler import Scheduler, SlurmError
from daemon.backends.slurm.sent import Key
from daemon.backends.slurm.snapshot import is_active

CLOSE_SECONDS = 2.0


class Unwanted:
    """The jobs that are to be cancelled. That one goes on meanwhile harms nobody."""

    def __init__(self, scheduler: Scheduler, *, retry_seconds: float) -> None:
        """Try again after `retry_seconds` when Slurm does not answer."""
        self._scheduler = scheduler
        self._retry_seconds = retry_seconds
        self._keys: set[Key] = set()
        self._task: asyncio.Task[None] | None = None

    def add(self, key: Key | None) -> None:
        """Have the job at a place of a batch cancelled; None is an attempt in no batch."""
        if key is None:
            return
        self._keys.add(key)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._cancel())

    async def close(self) -> None:
        """Stop trying, after a moment for what was just begun."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=CLOSE_SECONDS)
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _cancel(self) -> None:
        """Find the jobs by their comments, as numbers are given out again, and cancel them."""
        while self._keys:
            keys = set(self._keys)
            try:
                jobs = await self._scheduler.jobs()
                found = [job for job in jobs if (job.batch, job.index) in keys and is_active(job)]
                await self._scheduler.cancel([(job.array, job.index) for job in found])
            except SlurmError:
                await asyncio.sleep(self._retry_seconds)
                continue
            self._keys -= keys
