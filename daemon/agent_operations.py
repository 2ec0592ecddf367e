"""The operations of agents, which fetch jobs and report on them, and what is told of such jobs."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon.backends import agent_ticket
from daemon.backends.agent_report import BadReport, Report, Stale
from daemon.backends.agent_ticket import SHOWN, Stage
from daemon.control import Handler, ServiceError
from daemon.job_operations import JobOperations
from daemon.jobs.changes import UnknownJob
from daemon.jobs.folder import attempt_folder
from daemon.jobs.job import Job
from daemon.jobs.states import State

if TYPE_CHECKING:
    from daemon.service import Service

TAKEN_IN_SECONDS = 2.0
"""How long a report may wait until the queue has it; it is kept in any case. Many programs give up
after 5 s without an answer."""
LOOK_SECONDS = 0.02

SHOWS = {
    Stage.RUNNING: frozenset({State.RUNNING, State.STOP_REQUESTED}),
    Stage.STOP_REQUESTED: frozenset({State.STOP_REQUESTED}),
    Stage.FINISHED: frozenset({State.FINISHED, State.FAILED}),
    Stage.FAILED: frozenset({State.FAILED}),
    Stage.STOPPED: frozenset({State.STOPPED}),
}
"""The states of a job in which a report has been taken in, by what it leaves the attempt in."""


class AgentOperations:
    """The operations of agents of one service."""

    def __init__(self, service: "Service") -> None:
        """Answer for `service`."""
        self._service = service
        self.handlers: Mapping[str, Handler] = {
            "agent-next": self.next,
            "agent-report": self.report,
            "agent-heartbeat": self.heartbeat,
            "agent-requeue": self.requeue,
            "agents": self.agents,
            "job-state": self.state,
        }

    async def next(
        self, agent: str, jobs: list[str] | None = None, containers: bool = True
    ) -> dict[str, Any]:
        """The next job for `agent`: {"job": what it has to know, or None}.

        `jobs` are those that it has; what else it was given it is given again. `containers` says
        whether it runs any.
        """
        service = self._service
        first = await service.queue.live_dispatched()
        payload = await asyncio.to_thread(
            service.agents.give, agent, first=first, has=jobs, containers=containers
        )
        return {"job": payload}

    async def report(
        self,
        agent: str,
        job_id: str,
        status: str,
        attempt: int | None = None,
        container_id: str | None = None,
        container_name: str | None = None,
        exit_code: int | None = None,
        error: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """What `agent` says of a job: {"ok", "status": how the job is now}.

        Refused with the code `stale` when the agent does not have the job, or not any more.
        """
        service = self._service
        job = await self._job(job_id)
        said = Report(status, attempt, container_id, container_name, exit_code, error)
        if details:
            await asyncio.to_thread(service.agents.heard, agent, details)
        try:
            ticket = await asyncio.to_thread(service.agents.report, self._attempt(job), agent, said)
        except BadReport as wrong:
            raise ServiceError(str(wrong), "bad_report") from wrong
        except Stale as stale:
            raise ServiceError(f"{stale}; end it", "stale") from stale
        if (scheduler := service.working_scheduler) is not None:
            scheduler.wake(job_id)
        if ticket.journaled:
            await self._taken_in(job, ticket.stage)
        return {"ok": True, "status": ticket.status()["status"]}

    async def heartbeat(self, agent: str, info: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """`agent` is there; `info` is what it says of itself."""
        await asyncio.to_thread(self._service.agents.heard, agent, info or {})
        return {"ok": True, "folder": str(self._service.folder)}

    async def requeue(
        self,
        jobs: list[str],
        by: str,
        reason: str,
        agent: str | None,
        force: bool = False,
        require: bool = False,
    ) -> dict[str, Any]:
        """Queue jobs once more, for `agent` whatever their configuration says; as `requeue`."""
        if require and agent is None:
            raise ServiceError("require_host needs preferred_host: which agent it is")
        wish = {"preferred_host": agent, "require_host": require}
        told: dict[str, Any] = {"jobs": [], "refused": []}
        for job in jobs:
            folder = self._attempt(await self._job(job)).parent
            before = agent_ticket.wish(folder)
            await asyncio.to_thread(agent_ticket.write_wish, folder, wish)
            answer = await JobOperations(self._service).requeue([job], by, reason, force)
            if answer["refused"]:
                await asyncio.to_thread(agent_ticket.write_wish, folder, before)
            told = {name: told[name] + answer[name] for name in told}
        return told

    async def agents(self) -> dict[str, Any]:
        """The agents that were heard of, and the attempts that wait for one."""
        pool = self._service.agents
        hosts, queue = await asyncio.to_thread(lambda: (pool.hosts(), pool.queue()))
        return {"hosts": hosts, "queue": queue}

    async def state(self, job: str) -> dict[str, Any]:
        """How one job is, by its whole id: `job_id`, `status`, and what is known of its agent."""
        found = await self._job(job)
        history = await self._service.queue.history(job)
        changed: float = history[-1]["time"] if history else found.created
        told = {
            "job_id": found.id,
            "status": found.state.value,
            "worker_id": None,
            "exit_code": None,
            "error": found.reason or None,
            "attempt": found.attempt,
            "status_updated_at": changed,
        }
        ticket = await asyncio.to_thread(agent_ticket.read, self._attempt(found))
        if ticket is None:
            return told
        kept = {name: value for name, value in told.items() if value is not None}
        if found.state is State.DISPATCHED and ticket.stage is Stage.WAITING:
            kept["status"] = SHOWN[Stage.WAITING]
        updated = max(ticket.updated, changed)
        return {**ticket.status(), **kept, "status_updated_at": updated}

    async def _taken_in(self, job: Job, stage: Stage) -> None:
        """Wait until the queue has what was reported, or until that is somebody else's matter."""
        shows = SHOWS.get(stage, frozenset())
        loop = asyncio.get_running_loop()
        deadline = loop.time() + TAKEN_IN_SECONDS
        while loop.time() < deadline:
            now = await self._job(job.id)
            if now.state in shows or now.attempt != job.attempt:
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def _job(self, job_id: str) -> Job:
        try:
            return await self._service.queue.get(job_id)
        except UnknownJob as error:
            raise ServiceError(str(error), "unknown_job") from error

    def _attempt(self, job: Job) -> Path:
        return attempt_folder(self._service.folder / "jobs" / job.id, job.attempt)
