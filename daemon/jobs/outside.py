"""What the scheduler's parts need from the rest of the service, and what it is told."""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctxlib.journal import Entry
from daemon.backends.managers import Managers
from daemon.events import MigrationEvent
from daemon.jobs.job import Job
from daemon.settings import Settings

Update = dict[str, Any]


@dataclass(frozen=True)
class Outside:
    """Everything around the scheduler.

    `folder` is the database folder, with `jobs/` in it.
    `request(job)` gives the content of job.json; it is called in a thread.
    `apply(request, entries)` brings journal lines into the table, idempotently, and returns
    the updates to publish.
    `combine(job)` brings the results of an ended job into the run file, idempotently, and
    returns the names of variables that have to be computed again.
    `arrived(events)` makes the rows and files of their runs before events become jobs.
    `explain(proposal, run, text)` puts into the run's row why nothing comes of it, for what
    journals do not tell: a context that cannot be executed, attempts that are used up.
    `publish(update)` is told of every change; see `Job.update`. A job's end is told when its
    results are in the run file, and after the job that follows from it.
    `loads(whether)` is told what comes of loading the context for a job.
    `revoke(attempt)` claims an attempt for nobody; False when somebody was faster.
    `now()` is in seconds since the epoch; `clock()` in seconds too, and never steps: how long
    something lasts is found by it.
    """

    manager: Managers
    folder: Path
    settings: Callable[[], Settings]
    request: Callable[[Job], Mapping[str, Any]]
    apply: Callable[[Mapping[str, Any], Sequence[Entry]], Awaitable[Sequence[Update]]]
    combine: Callable[[Job], Awaitable[Sequence[str]]]
    arrived: Callable[[Sequence[MigrationEvent]], Awaitable[None]]
    explain: Callable[[int, int, str], Awaitable[None]]
    publish: Callable[[Update], None]
    loads: Callable[[bool], None]
    revoke: Callable[[Path], bool]
    log: logging.Logger
    now: Callable[[], float] = time.time
    clock: Callable[[], float] = time.monotonic

    def job_folder(self, job_id: str) -> Path:
        """The folder of a job."""
        return self.folder / "jobs" / job_id

    async def tell_row(self, job: Job, text: str) -> None:
        """Put `text` where the run's row explains itself; trouble with that is only logged."""
        if job.command is not None:
            return  # it has no run
        try:
            await self.explain(job.proposal, job.run, text)
        except Exception:
            self.log.exception("run %d cannot be told that %s", job.run, text)
