"""Shows what a `reprocess` does or would do: runs, variables, jobs and reasons."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from daemon.cli.output import plural
from daemon.cli.runs import format_runs

LOCAL = "local"
"""The backend that goes without saying."""
_DATA = {"raw": "raw data", "proc": "proc data", "all": "raw and proc data"}


def name_runs(runs: Sequence[int]) -> str:
    """Runs in words: "run 1", "runs 1-3,5"."""
    return f"{'run' if len(set(runs)) == 1 else 'runs'} {format_runs(runs)}"


def plan_lines(answer: Mapping[str, Any], *, changed: bool) -> Iterator[str]:
    """The lines that tell the answer of the operation `plan`; reasons only if `changed`."""
    for group in answer["plan"]:
        variables = group["variables"]
        runs = name_runs(group["runs"])
        stale = f"{plural(len(variables), 'stale variable')}" if changed else ""
        what = stale or plural(len(variables), "variable")
        yield f"{runs[0].upper()}{runs[1:]} ({_DATA[group['data']]}): {what}"
        if changed:
            for variable in variables:
                yield f"  {variable['name']}: {'; '.join(variable['why'])}"
        yield from _job_lines(group, {variable["name"] for variable in variables})
    if answer["current"]:
        runs = name_runs(answer["current"])
        why = "nothing is stale" if changed else "no variable is chosen"
        yield f"{runs[0].upper()}{runs[1:]}: {why}"


def _job_lines(group: Mapping[str, Any], asked: set[str]) -> Iterator[str]:
    """One line for each job of a run, and one for what is computed because others need it."""
    for number, job in enumerate(group["jobs"]):
        where = "job" if job["backend"] == LOCAL else f"{job['backend']} job"
        after = " after it" if number else ""
        yield f"  {where}{after}: {', '.join(job['variables'])}"
    needed = {name for job in group["jobs"] for name in job["variables"]} - asked
    if needed:
        yield f"  computed again as others need it: {', '.join(sorted(needed))}"
