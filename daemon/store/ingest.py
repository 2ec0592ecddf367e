"""Brings what a job's journal says into the run table, and says what has changed there."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ctxlib.errors import Problem
from ctxlib.journal import Entry
from daemon.store.outcomes import is_placeholder, journals, outcome, transient_names
from daemon.store.rows import PROCESSING_ERROR, CellValue
from daemon.store.table import RunsTable

Update = dict[str, Any]


class Ingest:
    """Applies journal lines to a table. To apply lines again changes nothing but timestamps."""

    def __init__(self, table: RunsTable) -> None:
        """Write into `table`; the job folders are in `jobs/` beside its file."""
        self._table = table
        self._jobs = table.path.parent / "jobs"
        self._transient: dict[str, frozenset[str]] = {}

    async def apply(self, job: Mapping[str, Any], entries: Sequence[Entry]) -> list[Update]:
        """Write new lines of a job (`job.json`) into the table, and return what they say.

        Variables are registered before their values, and all values go into one transaction.
        Updates have `kind` (plan, started, progress, waiting, result), `job`, `proposal` and
        `run`; results also `variable`, `status` (finished, failed, skipped), `error` (text or None)
        and `placeholder` (True while the thumbnail is still to be drawn).
        """
        run = (job["proposal"], job["run"])
        for entry in entries:
            if entry.kind == "plan":
                self._transient[job["id"]] = transient_names([entry])
                await self._table.register(entry.fields["variables"])
            elif entry.kind == "run" and entry.fields["start_time"] is not None:
                await self._table.set_start_time(*run, entry.fields["start_time"])
        outcomes = [o for o in map(outcome, entries) if o is not None]
        if "provenance" in job:
            outcomes = [o._replace(provenance=job["provenance"]) for o in outcomes]
        if outcomes:
            transient = self._transient_of(job)
            last = {o.name: o for o in outcomes if o.name not in transient}
            if last:
                await self._table.set_results(*run, list(last.values()))
        await self._tell_processing_error(run, entries)
        if any(entry.kind == "ended" for entry in entries):
            self._transient.pop(job["id"], None)
        head = {"job": job["id"], "proposal": run[0], "run": run[1]}
        return [{**update, **head} for update in _updates(entries)]

    async def _tell_processing_error(self, run: tuple[int, int], entries: Iterable[Entry]) -> None:
        for entry in entries:
            if entry.kind == "plan":
                await self._table.set_value(*run, PROCESSING_ERROR, None)
            elif entry.kind == "ended" and entry.fields["status"] in ("failed", "broken"):
                await self._table.set_value(*run, PROCESSING_ERROR, _reason(entry))

    def _transient_of(self, job: Mapping[str, Any]) -> frozenset[str]:
        """The variables of a job without a cell; from its journals if it began before we did."""
        known = self._transient.get(job["id"])
        if known is None:
            known = transient_names(
                entry for _, entries in journals(self._jobs / job["id"]) for entry in entries
            )
            self._transient[job["id"]] = known
        return known


def _updates(entries: Iterable[Entry]) -> Iterable[Update]:
    for entry in entries:
        if entry.kind == "plan":
            yield {"kind": "plan", "total": len(entry.fields["order"])}
        elif entry.kind == "started":
            yield {"kind": "started", "variable": entry.fields["variable"]}
        elif entry.kind == "progress":
            names = ("variable", "done", "total", "text")
            yield {"kind": "progress", **{name: entry.fields[name] for name in names}}
            if entry.fields.get("waits"):
                reason = f"{entry.fields['variable']}: {entry.fields['text']}"
                yield {"kind": "waiting", "reason": reason}
        elif entry.kind in ("finished", "failed", "died"):
            name = entry.fields["variable"]
            if name is not None:
                yield {"kind": "result", "variable": name, **_ending(outcome(entry))}


def _ending(cell: CellValue | None) -> Update:
    if cell is None or cell.error is None:
        shown = cell is not None and is_placeholder(cell)
        return {"status": "finished", "error": None, "placeholder": shown}
    cls, message = cell.error
    if cls == "Skip":
        return {"status": "skipped", "error": message, "placeholder": False}
    return {"status": "failed", "error": f"{cls}: {message}", "placeholder": False}


def _reason(entry: Entry) -> str:
    problems = [str(Problem.from_json(problem)) for problem in entry.fields.get("problems") or ()]
    return "\n".join([entry.fields["reason"], *problems])
