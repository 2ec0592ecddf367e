"""What is left when an attempt has ended: the run file, the last word on the job, the fragments."""

import asyncio
from collections.abc import Callable

from daemon.database import ReplacedError
from daemon.jobs import folder
from daemon.jobs.job import SUBMISSION, Job
from daemon.jobs.left_results import NOT_IN_FILE
from daemon.jobs.outside import Outside
from daemon.jobs.queue import Queue
from daemon.jobs.trouble import insist

RETRIES = (1.0, 5.0, 25.0)
"""Seconds before each further try to combine, when it failed for a reason that may not pass."""
RESULTS = "extracted_data"
"""The folder with the run files."""
CLEAN_SECONDS = 0.5
"""How long to gather jobs before the fragments of all of them go."""


class Finisher:
    """Combines the results of ended jobs, those of one run in the order in which they ended."""

    def __init__(self, queue: Queue, outside: Outside, *, queued: Callable[[], None]) -> None:
        """`queued` is called when a job was queued for what has to be computed again."""
        self._queue = queue
        self._outside = outside
        self._queued = queued
        self.tasks: set[asyncio.Task[None]] = set()
        self._last: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._cleaning = asyncio.Event()
        self._unremovable: set[str] = set()
        self._waiting: dict[str, str] = {}

    @property
    def waiting(self) -> str | None:
        """What run files wait for, if results cannot be written into them."""
        return "; ".join(dict.fromkeys(self._waiting.values())) or None

    def add(self, job: Job) -> None:
        """`job` has ended; its results are to be combined."""
        run = (job.proposal, job.run)
        task = asyncio.create_task(self._finish(job, self._last.get(run)))
        self._last[run] = task
        self.tasks.add(task)
        task.add_done_callback(lambda done: self._forget(run, done))

    async def keep_clean(self) -> None:
        """Remove fragments that nobody needs any more, for ever; once before all else."""
        while True:
            await self.clean()
            await self._cleaning.wait()
            await asyncio.sleep(CLEAN_SECONDS)
            self._cleaning.clear()

    async def clean(self) -> None:
        """Remove the fragments that nobody needs any more."""
        try:
            await self._clean()
        except ReplacedError as error:
            self._outside.log.warning("fragments stay: %s", error)
        except Exception:
            self._outside.log.exception("fragments could not be removed")

    def _forget(self, run: tuple[int, int], task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if self._last.get(run) is task:
            del self._last[run]

    async def _finish(self, job: Job, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        log, queue = self._outside.log, self._queue
        try:
            job = await insist(lambda: queue.get(job.id), job.name, log)
            if job.settled:
                return  # an operator's act and the attempt's own end were both followed by this
            again, trouble = await self._combine(job)
            following = await insist(lambda: queue.set_combined(job, trouble, again), job.name, log)
            if following is not None:
                log.warning("%s: computing %s again", job.name, ", ".join(again))
                self._outside.publish(following.update())
                self._queued()
            self._outside.publish((await queue.get(job.id)).update())
        except Exception:
            log.exception("%s could not be concluded; the next start tries again", job.name)
        finally:
            self._waiting.pop(job.id, None)
        self._cleaning.set()

    async def _combine(self, job: Job) -> tuple[list[str], str]:
        """Combine; the variables to compute again, and what the trouble is."""
        pauses = iter(RETRIES)
        while True:
            try:
                lost = await insist(
                    *(lambda: self._outside.combine(job), job.name, self._outside.log),
                    folders=(self._outside.folder / RESULTS, self._outside.folder),
                    tell=lambda trouble: self._tell_waiting(job, trouble),
                )
                return self._again(job, list(lost))
            except Exception as error:
                pause = next(pauses, None)
                if pause is None:
                    self._outside.log.exception("%s: its results stay in its folder", job.name)
                    return [], f"{NOT_IN_FILE}: {error}; `combiner now` tries again"
                self._outside.log.warning("%s: %s; trying again in %g s", job.name, error, pause)
                await asyncio.sleep(pause)

    def _tell_waiting(self, job: Job, trouble: str) -> None:
        reason = f"its results wait to be written: {trouble}"
        self._waiting[job.id] = f"run {job.run}: {reason}"
        about = {"job": job.id, "proposal": job.proposal, "run": job.run}
        self._outside.publish({"kind": "waiting", **about, "reason": reason})

    def _again(self, job: Job, lost: list[str]) -> tuple[list[str], str]:
        if lost and job.source == SUBMISSION:
            return [], f"what was submitted for {', '.join(lost)} cannot be read; submit it again"
        if lost and job.id.endswith("-again"):
            return [], f"what {', '.join(lost)} returned did not survive, twice; reprocess the run"
        return lost, ""

    async def _clean(self) -> None:
        place: int | None = 0
        while place is not None:
            place = await self._queue.clean(self._drop, place)

    def _drop(self, job: Job) -> bool:
        """In a transaction: whether the fragments of `job` are gone."""
        try:
            folder.drop_fragments(self._outside.job_folder(job.id), job.attempt)
        except OSError as error:
            if job.id not in self._unremovable:
                self._unremovable.add(job.id)
                self._outside.log.warning("%s: its fragments stay: %s", job.name, error)
            return False
        return True
