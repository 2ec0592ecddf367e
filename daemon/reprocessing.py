"""Reprocessing: which runs there are, what is planned for them, and the work that comes of it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ctxlib import parameter
from ctxlib.errors import Problem
from ctxlib.parameter import Parameter
from ctxlib.places import data_root
from ctxlib.selection import FIRST, WHOLE
from daemon.control import ServiceError
from daemon.jobs.job import Selection, Work
from daemon.plan import Place, Planner, RunPlan, grouped

if TYPE_CHECKING:
    from daemon.service import Service


@dataclass(frozen=True)
class Wish:
    """What somebody wants to be computed again.

    `runs` are numbers, or "all" for those on disk and in the table. `match` and `variables` select
    as in the context's graph, of what `changed` only what is stale; `params` are values of its
    parameters. With `mock`, runs need no data. With `backend`, all of a run is one job there.
    """

    runs: Sequence[int] | str
    match: tuple[str, ...] = ()
    variables: tuple[str, ...] | None = None
    mock: bool = False
    params: Mapping[str, Any] | None = None
    changed: bool = False
    backend: str | None = None


@dataclass(frozen=True)
class Found:
    """The runs of a wish, each with the data that it has, and those left out with the reason."""

    runs: Mapping[int, Selection]
    skipped: list[dict[str, Any]]


class Reprocessing:
    """Plans for one service, and for proposal number `proposal`."""

    def __init__(self, service: "Service", proposal: int) -> None:
        self._service = service
        self._proposal = proposal

    async def find(self, wish: Wish) -> Found:
        """Find the runs of a wish; without `mock` those without data are left out.

        Raises ServiceError when the proposal's data cannot be found.
        """
        service = self._service
        on_disk = await service.runs_on_disk(self._proposal)
        wanted = sorted(on_disk) if wish.runs == "all" else [int(run) for run in wish.runs]
        if wish.runs == "all":
            rows = await service.table.runs()
            table = {row.run for row in rows if row.proposal == self._proposal}
            wanted = sorted(table.union(wanted))
        if wish.mock:
            return Found(dict.fromkeys(wanted, "all"), [])
        root = await service.proposal_path(self._proposal)
        if root is None:
            raise ServiceError(self._not_found())
        reason = f"no data in {root}"
        return Found(
            {run: on_disk[run] for run in wanted if run in on_disk},
            [{"run": run, "reason": reason} for run in wanted if run not in on_disk],
        )

    def _not_found(self) -> str:
        if self._proposal == self._service.settings.proposal:
            return f"proposal {self._proposal} has no folder; set it with `db-config proposal_path`"
        return (
            f"proposal {self._proposal} has no folder, neither beside that of this database's own "
            f"proposal nor below {data_root()}; set EXTRA_DATA_DATA_ROOT for whoever serves it"
        )

    async def plan(self, wish: Wish, found: Found) -> tuple[list[RunPlan], dict[str, Any]]:
        """Plan for the runs that were found, and tell it as JSON.

        That has `plan` (see `plan.grouped`) and `current`, the runs that nothing is stale in.
        Raises ServiceError if the context file cannot be executed or has no such variable.
        """
        context = await self._service.context.described()
        if "broken" in context:
            said = "; ".join(str(Problem.from_json(each)) for each in context["broken"])
            raise ServiceError(f"context.py cannot be executed: {said}")
        planner = Planner(context["variables"])
        try:
            plans = planner.of_all(found.runs, wish.variables, wish.match)
        except KeyError as error:
            raise ServiceError(str(error.args[0])) from error
        if wish.changed:
            records = await self._service.origins.of_runs(self._proposal, list(found.runs))
            params = self._params(context["parameters"], wish)
            # Thousands of runs take a while; the service goes on meanwhile.
            plans = await asyncio.to_thread(planner.of_stale, plans, records, params)
        current = [plan.run for plan in plans if not plan.why]
        plans = [plan for plan in plans if plan.why]
        return plans, {
            "plan": grouped(plans, planner.selection, self._place(wish)),
            "current": current,
        }

    def _place(self, wish: Wish) -> Place:
        home = self._service.settings.noncluster_backend
        return Place(home) if wish.backend is None else Place(wish.backend, whole=True)

    def works(self, wish: Wish, plans: Sequence[RunPlan]) -> list[Work]:
        """Give the work for runs: what is stale of each, or what was asked for."""
        place = self._place(wish)
        return [
            Work(
                proposal=self._proposal,
                run=plan.run,
                data=plan.data,
                source="reprocess",
                live=False,
                match=() if wish.changed else wish.match,
                params=dict(wish.params or {}),
                variables=tuple(plan.why) if wish.changed else wish.variables,
                mock=wish.mock,
                backend=place.backend,
                part=WHOLE if place.whole else FIRST,
            )
            for plan in plans
        ]

    def _params(self, declared: Sequence[Mapping[str, Any]], wish: Wish) -> dict[str, Any]:
        """Give the values that parameters would have."""
        defaults = {
            each["name"]: Parameter(each["default"]) for each in declared if "default" in each
        }
        return parameter.values(defaults, {**self._service.settings.params, **(wish.params or {})})


async def find_all(
    service: "Service", ours: int, wish: Wish, proposal: int | None
) -> list[tuple[Reprocessing, Found]]:
    """Find the runs of a wish, proposal by proposal; without `proposal` those of ours come first.

    All runs are then those of ours on disk, and those of any proposal in the table.
    """
    first = Reprocessing(service, proposal or ours)
    parts = [(first, await first.find(wish))]
    if proposal is None and wish.runs == "all":
        others: dict[int, list[int]] = {}
        for row in await service.table.runs():
            if row.proposal != ours:
                others.setdefault(row.proposal, []).append(row.run)
        for other, runs in sorted(others.items()):
            work = Reprocessing(service, other)
            try:
                found = await work.find(replace(wish, runs=sorted(runs)))
            except ServiceError as error:
                found = Found({}, [{"run": run, "reason": str(error)} for run in sorted(runs)])
            parts.append((work, found))
    return parts
