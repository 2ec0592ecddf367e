"""What can be asked of a service: one method per operation, JSON in and JSON out.

The control socket and commands without a daemon offer the same operations. Their names and
arguments are a contract between a daemon and commands of other versions: add, do not change.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from daemon import chosen, parameters
from daemon.agent_operations import AgentOperations
from daemon.backends.configurations.base import BackendConfig
from daemon.backends.configurations.errors import ConfigurationError
from daemon.backends.named import check_variables
from daemon.by_hand import ByHand
from daemon.command_operations import CommandOperations, chosen_backend
from daemon.control import BAD_CONFIGURATION, Handler, ServiceError
from daemon.event_operations import EventOperations, our_proposal
from daemon.job_operations import JobOperations
from daemon.jobs.job import SEQUENTIAL, Job, Work
from daemon.jobs.states import TERMINAL
from daemon.plan import RunPlan
from daemon.reprocessing import Found, Reprocessing, Wish, find_all
from daemon.setting_operations import SettingOperations
from daemon.simulations import SimulationOperations
from daemon.trial_operations import TrialOperations
from daemon.updates import Follower

if TYPE_CHECKING:
    from daemon.service import Service


class Operations:
    """The operations of one service."""

    def __init__(self, service: "Service") -> None:
        """Answer for `service`."""
        self._service = service
        self._jobs = JobOperations(service)
        self._settings = SettingOperations(service)
        by_hand = ByHand(service)
        self.handlers: Mapping[str, Handler] = {
            "status": self.status,
            **EventOperations(service).handlers,
            **AgentOperations(service).handlers,
            **CommandOperations(service).handlers,
            **SimulationOperations(service).handlers,
            **TrialOperations(service).handlers,
            "reprocess": self.reprocess,
            "plan": self.plan,
            "arrive": by_hand.arrive,
            "combine": by_hand.combine,
            "take-back": self.take_back,
            "follow": self.follow,
            "jobs": self._jobs.jobs,
            "job": self._jobs.job,
            "requeue": self._jobs.requeue,
            "stop": self._jobs.stop,
            "cancel": self._jobs.cancel,
            "fail": self._jobs.fail,
            "cleanup": self._jobs.cleanup,
            "forget": self._jobs.forget,
            "settings": self._settings.settings,
            "set": self._settings.set,
            "delete": self._settings.delete,
            "create": self._settings.create,
            "new-id": self._settings.new_id,
            "read-context": self.read_context,
            "handover": self.handover,
        }

    async def call(self, op: str, **arguments: Any) -> Any:
        """The result of operation `op`, for one in the same process."""
        return await self.handlers[op](**arguments)  # type: ignore[misc]  # not a stream

    def stream(self, op: str, **arguments: Any) -> AsyncIterator[dict[str, Any]]:
        """The items of operation `op`, for one in the same process."""
        return self.handlers[op](**arguments)  # type: ignore[return-value]  # a stream

    async def status(self) -> dict[str, Any]:
        """Who serves the folder, what goes on in it, and what stands in the way."""
        service = self._service
        root = await service.proposal_path()
        return {
            "daemon": service.identity,
            "read_only": service.read_only is not None,
            "folder": str(service.folder),
            "proposal": service.settings.proposal,
            "proposal_path": str(root) if root is not None else None,
            "context": await service.context_state(),
            "jobs": await service.queue.counts(),
            "running": service.running(),
            "waiting": service.waiting(),
            "dead_letters": await service.inbox.count_dead_letters(),
            "sources": service.sources(),
            "warnings": [
                *([] if service.read_only is None else [service.read_only]),
                *service.settings.warnings,
            ],
        }

    async def reprocess(
        self,
        runs: list[int] | str,
        match: Iterable[str] = (),
        variables: list[str] | None = None,
        mock: bool = False,
        foreground: bool = False,
        params: Mapping[str, Any] | None = None,
        changed: bool = False,
        proposal: int | None = None,
        at_once: int | None = None,
        backend: str | None = None,
        configuration: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Queue jobs for `runs`; see `Wish`. With `foreground` the caller runs the attempts itself.

        All variables of a run are computed on `backend`, if one is given: a name, or what to call
        the `configuration` that is to be used for this once.
        Runs without data are left out and named. They are those of `proposal`, or the database's
        own, with which "all" takes what the table has of others. At most `at_once` of the jobs run
        at once. With `changed`, the answer also has what `plan` gives.
        """
        where, config = backend, await self._backend(backend, configuration)
        if foreground:
            where = SEQUENTIAL
        elif where is not None and config is not None and configuration is not None:
            where = await asyncio.to_thread(self._service.backends.once, where, config)
        wish = await self._wish(runs, match, variables, mock, params, changed, where)
        works: list[Work] = []
        told: dict[str, Any] = {"skipped": []}
        if changed:
            told |= {"plan": [], "current": []}
        for work, found in await self._found(wish, proposal):
            plans = [RunPlan(run, data, {}) for run, data in found.runs.items()]
            if changed:
                plans, more = await work.plan(wish, found)
                told["plan"] += more["plan"]
                told["current"] += more["current"]
            works += work.works(wish, plans)
            told["skipped"] += found.skipped
        made = await self._service.submit(works, at_once=at_once)
        jobs = [{"id": job.id, "run": job.run, "data": job.data} for job in made]
        return {"jobs": jobs, **told}

    async def _found(self, wish: Wish, proposal: int | None) -> list[tuple[Reprocessing, Found]]:
        return await find_all(self._service, our_proposal(self._service), wish, proposal)

    async def take_back(self, jobs: list[str], reason: str) -> dict[str, Any]:
        """Cancel those of `jobs` that nobody has begun with: {"canceled": their ids}."""
        service = self._service
        await service.work()
        found = await self._with_following(jobs)
        canceled = [job.id for job in found if await service.scheduler.take_back(job, reason)]
        return {"canceled": canceled}

    async def plan(
        self,
        runs: list[int] | str,
        match: Iterable[str] = (),
        variables: list[str] | None = None,
        mock: bool = False,
        params: Mapping[str, Any] | None = None,
        changed: bool = False,
        proposal: int | None = None,
        backend: str | None = None,
        configuration: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """What `reprocess` would do, without doing it: {"plan", "current", "skipped"}."""
        await self._backend(backend, configuration)
        wish = await self._wish(runs, match, variables, mock, params, changed, backend)
        told: dict[str, Any] = {"plan": [], "current": [], "skipped": []}
        for work, found in await self._found(wish, proposal):
            _, more = await work.plan(wish, found)
            told["plan"] += more["plan"]
            told["current"] += more["current"]
            told["skipped"] += found.skipped
        return told

    async def _wish(
        self,
        runs: list[int] | str,
        match: Iterable[str],
        variables: list[str] | None,
        mock: bool,
        params: Mapping[str, Any] | None,
        changed: bool,
        backend: str | None,
    ) -> Wish:
        await self._check_params(params or {})
        await self._check_chosen(variables or (), match)
        names = None if variables is None else tuple(variables)
        return Wish(runs, tuple(match), names, mock, params, changed, backend)

    async def _backend(
        self, name: str | None, configuration: Mapping[str, Any] | None
    ) -> BackendConfig | None:
        """The backend of that name, or the one that comes with it; None for no name."""
        if name is None:
            return None
        config = await chosen_backend(self._service.backends, name, configuration)
        try:
            check_variables(name, config)
        except ConfigurationError as error:
            raise ServiceError(str(error), BAD_CONFIGURATION) from error
        return config

    async def _check_params(self, params: Mapping[str, Any]) -> None:
        """Refuse values that no parameter can have, and those of unknown ones."""
        if not params:
            return
        try:
            parameters.check(params)
        except parameters.ParameterError as error:
            raise ServiceError(str(error)) from error
        await self._service.context.state()
        if (trouble := self._settings.unknown(params)) is not None:
            raise ServiceError(trouble)

    async def _check_chosen(self, names: Iterable[str], match: Iterable[str]) -> None:
        """Refuse names and parts of titles that no variable has, as far as the file can be read."""
        if not (names or match):
            return
        context = self._service.context
        for look in (context.state, context.read):  # the second one sees changed modules too
            await look()
            if context.variables is None:
                return
            trouble = chosen.unknown(names, match, context.variables)
            if trouble is None:
                return
        raise ServiceError(trouble)

    async def follow(self, jobs: list[str]) -> AsyncIterator[dict[str, Any]]:
        """What becomes of `jobs` and the jobs that follow from them, until all have ended."""
        service = self._service
        await service.work()
        unsettled = set(jobs)
        while unsettled:  # once more for one who cannot be told of everything
            with service.hub.follow() as follower:
                found = await self._with_following(jobs)
                for job in found:
                    yield job.update()
                mine = {job.id for job in found}
                if (scheduler := service.working_scheduler) is not None:
                    for update in scheduler.waits(mine):
                        yield update
                unsettled = {job.id for job in found if not job.settled}
                if unsettled:
                    async for update in _about(mine, unsettled, follower):
                        yield update

    async def _with_following(self, jobs: list[str]) -> list[Job]:
        found = await self._service.queue.with_following(jobs)
        if missing := set(jobs).difference(job.id for job in found):
            raise ServiceError(f"there is no job {', '.join(sorted(missing))}")
        return found

    async def read_context(self) -> dict[str, Any]:
        """Load context.py in its Python, tell its problems, and register its variables."""
        return await self._service.context.read()

    async def handover(self) -> dict[str, Any]:
        """A daemon asks a command to let go of the folder after what it has begun."""
        if self._service.identity is not None:
            raise ServiceError("a daemon holds this folder; it does not hand it over")
        self._service.handover.ask()
        return {}


async def _about(
    mine: set[str], unsettled: set[str], follower: Follower
) -> AsyncIterator[dict[str, Any]]:
    """Updates on the jobs `mine` and on those that follow from them; both sets are kept up.

    Ends when `unsettled` is empty, or when the follower has to look at all of them once more: it
    has fallen too far behind, or jobs are held back.
    """
    async for update in follower:
        if update["kind"] == "held":
            return
        if update["kind"] == "job":
            if update.get("after") in mine and update["id"] not in mine:
                mine.add(update["id"])
                unsettled.add(update["id"])
            if update["id"] not in mine:
                continue
            if update["state"] in TERMINAL:
                unsettled.discard(update["id"])
        elif update.get("job") not in mine:
            continue
        yield update
        if not unsettled:
            return
