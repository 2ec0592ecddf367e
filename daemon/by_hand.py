"""What people have a service do by hand that it does by itself else: runs arrive, files combine."""

import asyncio
import uuid
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from daemon.control import ServiceError
from daemon.jobs.changes import Stamp, UnknownJob
from daemon.jobs.left_results import left_results, try_again
from daemon.person import person
from daemon.store.left_fragments import NotTakenError, left_fragments, take_in

if TYPE_CHECKING:
    from daemon.service import Service

TAKEN_SECONDS = 30.0
"""Within this time what has arrived is a job, where nothing is in the way."""
LOOK_SECONDS = 0.05
"""How often to look whether it is."""


class ByHand:
    """The operations of one service that stand in for what it notices by itself."""

    def __init__(self, service: "Service") -> None:
        """Answer for `service`."""
        self._service = service

    async def arrive(self, run: int, data: str, proposal: int | None = None) -> dict[str, Any]:
        """Take in that `data` of `run` has arrived, and wait for its job: {"event", "job"}.

        `job` is None when there is none yet, as something is in the way.
        """
        service, key = self._service, uuid.uuid4().hex
        await service.work()
        stored = await service.operations.call(
            "event", run=run, data=data, proposal=proposal, key=key
        )
        job = None
        with suppress(TimeoutError):
            async with asyncio.timeout(TAKEN_SECONDS):
                while (job := await self._job_of(key)) is None:
                    await asyncio.sleep(LOOK_SECONDS)
        return {"event": stored["event"], "job": job}

    async def _job_of(self, key: str) -> str | None:
        events = await self._service.inbox.recent(1000)
        return next((event["job"] for event in events if event["key"] == key), None)

    async def combine(self) -> dict[str, Any]:
        """Put results that were left into the run files: {"jobs": ids, "left": [{what, why}]}.

        They are those of jobs of ours with which that failed, and those that DAMNIT's own jobs left
        as files. The jobs can be followed.
        """
        service = self._service
        await service.work()
        jobs, left = await self._results()
        handed_in, others = await self._fragments()
        return {"jobs": [*jobs, *handed_in], "left": [*left, *others]}

    async def _results(self) -> tuple[list[str], list[dict[str, str]]]:
        service, jobs, left = self._service, [], []
        for job, replaced in await service.database.read(left_results):
            if replaced:
                left.append({"what": job.name, "why": "a later job of its run is in the run file"})
                continue
            at = Stamp(service.now(), person())
            begun = await service.database.write(partial(try_again, job=job, at=at))
            if begun is not None:
                service.scheduler.changed(begun)
            jobs.append(job.id)
        return jobs, left

    async def _fragments(self) -> tuple[list[str], list[dict[str, str]]]:
        service, jobs, left = self._service, [], []
        ours = service.settings.proposal
        for fragment in await asyncio.to_thread(left_fragments, service.folder):
            try:
                if fragment.proposal != ours:
                    raise NotTakenError(f"this is the database of proposal {ours}")
                job, began = await take_in(service.folder, fragment)
            except NotTakenError as error:
                left.append({"what": str(fragment.path), "why": str(error)})
                continue
            if began is not None:
                run = (fragment.proposal, fragment.run)
                await service.table.ensure_run(*run, began, service.now())
            if job is not None:
                jobs.append(job)
        await self._until_taken(jobs)
        return jobs, left

    async def _until_taken(self, jobs: list[str]) -> None:
        """Wait until the queue has `jobs`, which were handed in."""
        try:
            async with asyncio.timeout(TAKEN_SECONDS):
                for job in jobs:
                    while not await self._is_queued(job):
                        await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError as error:
            raise ServiceError(
                f"{', '.join(jobs)} in {self._service.folder / 'submitted'} cannot be taken in; "
                "`runtable events` and amore.log may say why"
            ) from error

    async def _is_queued(self, job: str) -> bool:
        try:
            await self._service.queue.get(job)
        except UnknownJob:
            return False
        return True
