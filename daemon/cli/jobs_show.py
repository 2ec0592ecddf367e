"""`runtable jobs show`: all that is known of a job."""

from collections.abc import Iterator, Mapping
from typing import Any

import click

from daemon.cli.folder import connect, database_folder, in_option
from daemon.cli.output import how_far, local_time, print_table

RESULTS = ("not yet in the run file", "in the run file", "could not be put into the run file")
"""Where the results of an ended job are, by its number `combined`."""


@click.command("show")
@click.argument("jobs", metavar="ID...", nargs=-1, required=True)
@in_option
def command(jobs: tuple[str, ...], directory: str | None) -> None:
    """Show what a job is for and what became of it.

    That is its request, its state, its attempts, its history with who and why, its variables, and
    where its log is. An id may be shortened to its beginning.
    """
    with connect(database_folder(directory)) as service:
        found = [service.call("job", job=job) for job in jobs]
    for number, job in enumerate(found):
        if number:
            click.echo()
        _show(job)


def _show(job: Mapping[str, Any]) -> None:
    for label, text in describe(job):
        click.echo(f"{label:<12}  {text}".rstrip())
    if job["attempts"]:
        click.echo("\nAttempts:")
        print_table(
            ["try", "dispatched", "ended", "outcome", "where"],
            [
                [
                    attempt["number"],
                    local_time(attempt["dispatched"]),
                    local_time(attempt["ended"]),
                    attempt["outcome"],
                    attempt.get("where"),
                ]
                for attempt in job["attempts"]
            ],
        )
    click.echo("\nHistory:")
    print_table(
        ["time", "try", "state", "who", "why"],
        [
            [
                local_time(line["time"]),
                line["attempt"],
                _change(line),
                _who(line),
                line["why"],
            ]
            for line in job["history"]
        ],
    )
    if job["results"]:
        click.echo("\nVariables:")
        print_table(
            ["variable", "result", "try", "took", "error"],
            [
                [
                    each["variable"],
                    each["status"],
                    each["attempt"],
                    _took(each["duration"]),
                    each["error"],
                ]
                for each in job["results"]
            ],
        )


def describe(job: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The lines about a job itself: label and text."""
    yield "Job", job["id"]
    if job["command"]:
        yield "Command", job["command"].get("command") or "that of the image"
    else:
        yield "For", f"{job['data']} data of run {job['run']}, proposal {job['proposal']}"
        yield "Variables", _selection(job)
    if job["params"]:
        yield "Parameters", ", ".join(f"{name} = {value}" for name, value in job["params"].items())
    yield "Backend", _backend(job)
    how = "" if job["command"] else ", live" if job["live"] else ", again"
    yield "From", f"{job['source']}{how}"
    yield "State", _state(job)
    if job["problem"]:
        yield "Problem", job["problem"]
    has_results = job["attempt"] and not job["command"] and job["combined"] in (0, 1, 2)
    if job["ended"] is not None and has_results:
        yield "Results", RESULTS[job["combined"]]
    if job["after"]:
        yield "After", job["after"]
    if job["following"]:
        yield "Followed by", ", ".join(job["following"])
    yield "Folder", job["folder"] or "is gone"
    yield "Log", job["log"]


def _backend(job: Mapping[str, Any]) -> str:
    """Where it is, and what its job is called there while it waits or runs."""
    place = (job["running"] or {}).get("place")
    return f"{job['backend']}: {place}" if place else str(job["backend"])


def _selection(job: Mapping[str, Any]) -> str:
    kind = f"{job['part']} variables" if job["part"] not in ("", "*") else "variables"
    if job["variables"] is not None:
        return ", ".join(job["variables"])
    if job["match"]:
        return f"{kind} with {' or '.join(map(repr, job['match']))} in their titles"
    return f"all {kind}"


def _state(job: Mapping[str, Any]) -> str:
    running = job["running"] or {}
    if running.get("total"):
        at = how_far(running["variable"], running["progress"])
        far = f"{running['done']} of {running['total']} variables done"
        waits = f"; {running['waits']}" if running.get("waits") else ""
        return f"{job['state']}, {far}" + (f", now {at}" if at else "") + waits
    why = running.get("waits") or job["reason"] or job["waiting_reason"]
    return f"{job['state']}: {why}" if why else str(job["state"])


def _change(line: Mapping[str, Any]) -> str:
    """A remark has no change of state."""
    return "" if line["was"] == line["became"] else str(line["became"])


def _who(line: Mapping[str, Any]) -> str:
    return f"{line['who']} ({line['by']})" if line.get("by") else str(line["who"])


def _took(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.3g} s"
