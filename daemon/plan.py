"""What a `reprocess` would do, run by run: which variables in which jobs, and why if asked."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctxlib import staleness
from ctxlib.selection import WHOLE, Choice, Selection
from daemon.jobs.job import Selection as Selected
from daemon.store.origins import Record, Records

NO_RECORD = "there is no record of where its result comes from"


@dataclass(frozen=True)
class Place:
    """Where runs are processed: on the `backend` of their first jobs, or on it as a `whole`."""

    backend: str
    whole: bool = False


@dataclass(frozen=True)
class RunPlan:
    """What is to be computed for a run whose data are "raw", "proc" or "all" there.

    `why` has the variables that are asked for or stale, each with its reasons (none when nobody
    asked for reasons).
    """

    run: int
    data: Selected
    why: Mapping[str, Sequence[str]]


def grouped(plans: Iterable[RunPlan], selection: Selection, place: Place) -> list[dict[str, Any]]:
    """Tell plans as JSON, once for all runs for which they are the same.

    [{"runs", "data", "variables": [{"name", "why"}], "jobs": [{"backend", "variables"}]}]; jobs
    also have what is computed because others need it.
    """
    groups: dict[object, list[RunPlan]] = {}
    for plan in plans:
        why = tuple((name, tuple(reasons)) for name, reasons in plan.why.items())
        groups.setdefault((plan.data, why), []).append(plan)
    return [
        {
            "runs": [plan.run for plan in same],
            "data": same[0].data,
            "variables": [{"name": n, "why": list(why)} for n, why in same[0].why.items()],
            "jobs": list(_jobs(same[0], selection, place)),
        }
        for same in groups.values()
    ]


def _jobs(plan: RunPlan, selection: Selection, place: Place) -> Iterator[dict[str, Any]]:
    if place.whole:
        yield {"backend": place.backend, "variables": sorted(selection.part(plan.why, WHOLE))}
        return
    for part in selection.parts(plan.why, place.backend):
        if needed := {*part.variables, *part.again}:
            yield {"backend": part.backend or place.backend, "variables": sorted(needed)}


class Planner:
    """Plans work with the variables of a context as `Graph.describe` gives them, in its order."""

    def __init__(self, variables: Iterable[Mapping[str, Any]]) -> None:
        self._described = {each["name"]: each for each in variables}
        self.selection = Selection(map(Choice.of, self._described.values()))

    def of_all(
        self,
        runs: Mapping[int, Selected],
        variables: Sequence[str] | None = None,
        match: Sequence[str] = (),
    ) -> list[RunPlan]:
        """Plan what is asked for, of each run with the data that it has.

        Raises KeyError for an unknown variable.
        """
        chosen = {
            data: self.selection.chosen(data, variables, match)
            for data in ("raw", "proc", "all")  # an unknown name is told whatever there is
        }
        return [RunPlan(run, data, dict.fromkeys(chosen[data], ())) for run, data in runs.items()]

    def of_stale(
        self, plans: Sequence[RunPlan], records: Records, params: Mapping[str, Any]
    ) -> list[RunPlan]:
        """Reduce plans to what is stale when parameters have the values `params`, with reasons."""
        described = self._described.values()
        now = staleness.complete(described, params, list(self._described))
        judge = _Judge(self._described, records.fingerprints, now)
        return [
            RunPlan(plan.run, plan.data, dict(judge.stale(plan.why, records.runs[plan.run])))
            for plan in plans
        ]


class _Judge:
    """Compares what is recorded with what would be."""

    def __init__(
        self,
        described: Mapping[str, Mapping[str, Any]],
        before: Mapping[int, Mapping[str, str]],
        now: Mapping[str, Mapping[str, str]],
    ) -> None:
        self._described = described
        self._before = before
        self._now = now
        self._compared: dict[tuple[str, int], list[str]] = {}

    def stale(
        self, names: Iterable[str], records: Mapping[str, Record]
    ) -> Iterator[tuple[str, list[str]]]:
        """Give the stale ones of a run with their reasons; what is not kept is left out."""
        for name in names:
            if self._described[name]["transient"]:
                continue
            why = self._why(name, records)
            if why:
                yield name, why

    def _why(self, name: str, records: Mapping[str, Record]) -> list[str]:
        record = records.get(name)
        if record is None:
            return [NO_RECORD]
        if record.status == "submitted":
            return []  # nobody here can make it again
        key = (name, record.content)
        if key not in self._compared:
            before = self._before[record.content]
            why = staleness.reasons(before, self._now[name]) if before else [NO_RECORD]
            self._compared[key] = why
        return self._compared[key] or list(self._skipped(name, record, records))

    def _skipped(self, name: str, record: Record, records: Mapping[str, Record]) -> Iterator[str]:
        """Say which of the variables that a skipped one needs were computed later."""
        for needed in self._described[name]["dependencies"] if record.status == "skipped" else ():
            found = records.get(needed)
            if found and found.status in ("finished", "submitted") and found.time > record.time:
                yield f"it was skipped, and {needed!r}, which it needs, was computed since"
