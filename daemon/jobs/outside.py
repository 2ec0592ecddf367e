"""What the scheduler's parts need from the rest of the service, as callables."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctxlib.journal import Entry
from daemon.backends import Manager
from daemon.events import MigrationEvent
from daemon.jobs.job import Job
from daemon.settings import Settings

Update = dict[str, Any]


@dataclass(frozen=True)
class Outside:
    """Everything around the scheduler; see `Scheduler` for what each of them does."""

    manager: Manager
    folder: Path
    settings: Callable[[], Settings]
    request: Callable[[Job], Mapping[str, Any]]
    apply: Callable[[Mapping[str, Any], Sequence[Entry]], Awaitable[Sequence[Update]]]
    combine: Callable[[Job], Awaitable[Sequence[str]]]
    arrived: Callable[[MigrationEvent], Awaitable[None]]
    explain: Callable[[int, int, str], Awaitable[None]]
    publish: Callable[[Update], None]
    revoke: Callable[[Path], bool]
    free_memory: Callable[[], int]
    now: Callable[[], float]
    log: logging.Logger

    def job_folder(self, job_id: str) -> Path:
        """The folder of a job."""
        return self.folder / "jobs" / job_id

    async def tell_row(self, job: Job, text: str) -> None:
        """Put `text` where the run's row explains itself; trouble with that is only logged."""
        try:
            await self.explain(job.proposal, job.run, text)
        except Exception:
            self.log.exception("run %d cannot be told that %s", job.run, text)
