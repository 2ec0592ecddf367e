"""What operators can ask of a service about single jobs: look at one, end it, run it again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxlib import claim
from daemon.backends.here import revoke
from daemon.control import ServiceError
from daemon.jobs.changes import UnknownJob
from daemon.jobs.folder import BEFORE, attempt_folder, process_log, read_request
from daemon.jobs.housekeeping import counted
from daemon.jobs.job import Job
from daemon.jobs.progress import where_was
from daemon.jobs.records import AmbiguousJob
from daemon.jobs.states import ACTIVE, TERMINAL, Refused, State
from daemon.jobs.variables import variables

if TYPE_CHECKING:
    from daemon.service import Service

LOG = logging.getLogger("runtable")
HANDOVER_LOOK_SECONDS = 0.05
"""How often to look whether an attempt that is being handed over has its folder."""


class JobOperations:
    """The operations on jobs of one service; ids may be shortened to their beginnings."""

    def __init__(self, service: "Service") -> None:
        """Answer for `service`."""
        self._service = service

    async def jobs(self, limit: int = 50, state: str | None = None) -> dict[str, Any]:
        """The last jobs, newest first, of one state or of all."""
        try:
            wanted = None if state is None else State(state)
        except ValueError as error:
            raise ServiceError(f"{error}; states are {', '.join(State)}") from error
        running = {item["job"]: item for item in self._service.running()}
        found = await self._service.records.recent(limit, wanted)
        return {"jobs": [{**job, "running": running.get(job["id"])} for job in found]}

    async def job(self, job: str) -> dict[str, Any]:
        """All that is known of one job: its row, attempts, history, request and variables.

        Each attempt has `where` it was, "" when nobody has begun with it.
        `folder` and `log` say where the rest is; `settled` that nothing more will come of it.
        """
        service = self._service
        found = await self._row(job)
        folder = service.folder / "jobs" / found["id"]
        running = {item["job"]: item for item in service.running()}
        try:
            settled = (await service.queue.get(found["id"])).settled
        except ValueError:
            settled = found["state"] in TERMINAL
        request = await asyncio.to_thread(read_request, folder) or {}
        log = process_log(service.folder, found["proposal"], found["run"])
        results = await asyncio.to_thread(variables, folder)
        await asyncio.to_thread(_tell_where, folder, found["attempts"])
        return {
            **{**found, "running": running.get(found["id"]), "settled": settled},
            "folder": str(folder) if await asyncio.to_thread(folder.is_dir) else None,
            "log": await asyncio.to_thread(_log_inside, service.folder, request, log),
            "request": request,
            "results": [_as_it_is(each, found) for each in results],
        }

    async def requeue(
        self, jobs: list[str], by: str, reason: str, force: bool = False
    ) -> dict[str, Any]:
        """Queue jobs that have ended for another attempt; see `_each` for the answer."""

        async def act(job_id: str) -> Job:
            job = await self._service.queue.requeue(job_id, by=by, why=reason, force=force)
            self._tell(job)
            return job

        return await self._each(jobs, act, by, reason)

    async def stop(self, jobs: list[str], by: str, reason: str) -> dict[str, Any]:
        """Stop jobs with all their processes; those that wait are canceled."""
        queue = self._service.queue

        async def act(job_id: str) -> Job:
            before = await queue.get(job_id)
            if before.state is State.DISPATCHED and await self._prevent(before):
                job = await queue.cancel(job_id, by=by, why=reason)
            else:
                job = await queue.stop(job_id, by=by, why=reason)
            return await self._carry_out(before, job, reason)

        return await self._each(jobs, act, by, reason)

    async def cancel(self, jobs: list[str], by: str, reason: str) -> dict[str, Any]:
        """Take back jobs that have not begun."""
        queue = self._service.queue

        async def act(job_id: str) -> Job:
            before = await queue.get(job_id)
            if before.state is State.DISPATCHED and not await self._prevent(before):
                raise Refused(f"job {job_id} has begun: it can be stopped, not canceled")
            job = await queue.cancel(job_id, by=by, why=reason)
            return await self._carry_out(before, job, reason)

        return await self._each(jobs, act, by, reason)

    async def fail(
        self, jobs: list[str], by: str, reason: str, force: bool = False
    ) -> dict[str, Any]:
        """Give up jobs that are under way, with all their processes."""
        queue = self._service.queue

        async def act(job_id: str) -> Job:
            before = await queue.get(job_id)
            if before.state is State.DISPATCHED:
                await self._prevent(before)
            job = await queue.fail(job_id, by=by, why=reason, force=force)
            return await self._carry_out(before, job, reason)

        return await self._each(jobs, act, by, reason)

    async def cleanup(self, by: str, dry_run: bool = False) -> dict[str, Any]:
        """Remove what nothing needs: {"found": [{"kind", "name", "why", "kept"}]}.

        With `dry_run` nothing is removed. `kept` says why something stays.
        """
        keep = self._service.housekeeping
        found = await keep.what_is_wrong(dry_run=dry_run) + await keep.by_age(dry_run=dry_run)
        if found and not dry_run:
            LOG.info("cleaned up by %s: %s", by, counted(found))
        return {"found": [asdict(waste) for waste in found]}

    async def forget(self, job: str, by: str) -> dict[str, Any]:
        """Remove a job that has ended, with its folder; its results stay in the run file."""
        found = await self._row(job)
        id_, state = found["id"], found["state"]
        if state not in TERMINAL:
            raise ServiceError(f"job {id_} is {state}: stop it, and delete it then", "conflict")
        if not await self._service.housekeeping.forget(id_):
            words = f"job {id_} is still needed: its results are not in the run file yet"
            raise ServiceError(f"{words}, or another job waits for it", "conflict")
        LOG.info("job %s: deleted by %s", id_, by)
        return {"id": id_}

    async def _row(self, job: str) -> dict[str, Any]:
        """What the queue has of one job; raises ServiceError."""
        records = self._service.records
        try:
            return await records.job(await records.find(job))
        except LookupError as error:
            raise ServiceError(str(error), code_of(error)) from error

    async def _each(
        self, jobs: list[str], act: Callable[[str], Awaitable[Job]], by: str, reason: str
    ) -> dict[str, Any]:
        """Do `act` to each of `jobs`, on behalf of `by`.

        {"jobs": as they are now, "refused": [{"id", "reason", "code"}]}.
        """
        done: list[dict[str, Any]] = []
        refused: list[dict[str, str]] = []
        for text in jobs:
            try:
                job = await act(await self._service.records.find(text))
            except (UnknownJob, AmbiguousJob, ValueError) as error:  # Refused is a ValueError too
                refused.append({"id": text, "reason": str(error), "code": code_of(error)})
            else:
                LOG.info("%s: %s by %s: %s", job.name, job.state, by, reason)
                done.append({**job.update(), "command": job.command is not None})
        return {"jobs": done, "refused": refused}

    async def _carry_out(self, before: Job, job: Job, why: str) -> Job:
        """End what an act has put an end to, and tell those who work on the queue."""
        if before.state in ACTIVE and job.state in (State.STOP_REQUESTED, State.FAILED):
            await self._end_attempt(job, why)
        self._tell(job)
        return job

    def _tell(self, job: Job) -> None:
        if (scheduler := self._service.working_scheduler) is not None:
            scheduler.changed(job)

    async def _end_attempt(self, job: Job, why: str) -> None:
        scheduler = self._service.working_scheduler
        try:
            if scheduler is not None:
                await scheduler.end_attempt(job, why)
            else:
                await asyncio.to_thread(claim.request_stop, self._attempt(job), why)
        except FileNotFoundError:
            return  # nobody has begun with it, or somebody has removed its folder

    async def _prevent(self, job: Job) -> bool:
        """See to it that nobody begins with a dispatched job; False when somebody has."""
        while True:
            try:
                return await asyncio.to_thread(revoke, self._attempt(job))
            except FileNotFoundError:
                if self._service.working_scheduler is None:
                    return True  # whoever was about to hand it over is gone
            # It is just being handed over.
            await asyncio.sleep(HANDOVER_LOOK_SECONDS)
            now = await self._service.queue.get(job.id)
            if (now.state, now.attempt) != (job.state, job.attempt):
                return False

    def _attempt(self, job: Job) -> Path:
        return attempt_folder(self._service.folder / "jobs" / job.id, job.attempt)


def _tell_where(job: Path, attempts: list[dict[str, Any]]) -> None:
    """In a thread: add to the attempts of a job where each was, those before a requeue too."""
    for attempt in attempts:
        number = str(attempt["number"])
        folders = (job / number, job / BEFORE / number)
        attempt["where"] = next(filter(None, map(where_was, folders)), "")


def _log_inside(folder: Path, request: Mapping[str, Any], usual: Path) -> str:
    """In a thread: the log that a request names, if it is in the database folder at all.

    Whoever submits a job writes its request, and could have others show them any file.
    """
    named = request.get("log")
    if isinstance(named, str) and "\0" not in named:
        log = (folder / named).resolve()
        if log.is_relative_to(folder.resolve() / "process_logs"):
            return str(log)
    return str(usual)


def _as_it_is(variable: dict[str, Any], job: Mapping[str, Any]) -> dict[str, Any]:
    """How a variable is of whose end the journals say nothing, when its attempt is over."""
    status = variable["status"]
    if job["state"] in TERMINAL:
        status = {"waiting": "not begun", "running": "not finished"}.get(status, status)
    elif status == "running" and variable["attempt"] != job["attempt"]:
        status = "waiting"
    return {**variable, "status": status}


def code_of(error: Exception) -> str:
    """What an error about a job is for programs."""
    if isinstance(error, UnknownJob):
        return "unknown_job"
    return "ambiguous_job" if isinstance(error, AmbiguousJob) else "conflict"
