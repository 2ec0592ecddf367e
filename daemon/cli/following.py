"""What commands that have work done share: they ask for it, follow it, and say how it went."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daemon.cli.folder import program
from daemon.cli.output import plural
from daemon.cli.plan import name_runs, plan_lines
from daemon.cli.progress import Tally, View

if TYPE_CHECKING:  # imported where needed, because every command's start would pay for it
    from daemon.cli.connection import Connection


def submit(service: "Connection", request: dict[str, Any], tally: Tally) -> list[str]:
    """Ask for the work, name the runs that are skipped, and count the jobs in."""
    answer = service.call("reprocess", **request)
    say_skipped(answer["skipped"])
    if "changed" in request:
        tally.current += answer["current"]
        for line in plan_lines(answer, changed=True):
            click.echo(line)
    for job in answer["jobs"]:
        tally.add(job["id"], job["run"])
    return [job["id"] for job in answer["jobs"]]


def say_skipped(skipped: Sequence[dict[str, Any]]) -> None:
    """Name the runs that were left out, together where the reason is the same."""
    by_reason: dict[str, list[int]] = {}
    for item in skipped:
        by_reason.setdefault(item["reason"], []).append(item["run"])
    for reason, runs in by_reason.items():
        click.echo(f"Skipped {name_runs(runs)}: {reason}", err=True)


def follow(service: "Connection", folder: Path, jobs: list[str], tally: Tally, shown: View) -> None:
    """Follow `jobs` to their end.

    A daemon lets them wait for a context that cannot be executed; without one nobody would mend it
    meanwhile, so they are taken back.
    """
    heard: set[str] = set()
    while jobs and (reason := _follow_until_held(service, jobs, tally, shown, heard)):
        heard.add(reason)
        context = service.call("status")["context"]
        if not context["ok"] and not context.get("loading"):
            service.call("take-back", jobs=jobs, reason=reason)
            raise cannot_be_executed(folder, context["problems"])


def _follow_until_held(
    service: "Connection", jobs: list[str], tally: Tally, shown: View, heard: set[str]
) -> str:
    """Follow `jobs`; without a daemon only until they wait for something not `heard` of yet."""
    with closing(service.stream("follow", jobs=jobs)) as items:
        for item in items:
            shown.update(tally.take(item))
            held = item["kind"] == "job" and item["state"] == "queued" and item["reason"]
            if held and service.daemon is None and item["reason"] not in heard:
                return str(item["reason"])
    return ""


def cannot_be_executed(folder: Path, problems: Sequence[dict[str, Any]]) -> click.ClickException:
    """What ends a command whose context file cannot be executed, for `problems`."""
    from ctxlib.errors import Problem

    said = "\n".join(f"  {Problem.from_json(problem)}" for problem in problems)
    return click.ClickException(f"{folder / 'context.py'} cannot be executed:\n{said}")


def say_interrupted(service: "Connection", tally: Tally) -> None:
    """Say what becomes of the jobs of a command that Ctrl-C has ended."""
    left = name_runs([job.run for job in tally.jobs.values() if not job.ended])
    if service.daemon is not None:
        how_far = f"`{program()} jobs` shows how far it is"
        click.echo(f"The daemon goes on with {left}; {how_far}", err=True)
    else:
        click.echo(
            f"Stopping after what has begun; the rest of {left} stays queued for the next "
            "daemon or reprocess",
            err=True,
        )


def report(tally: Tally) -> None:
    """Say in the end what went wrong; exits with 1 when a run could not be processed."""
    if not tally.jobs and tally.current:
        return  # nothing is stale, which has been said
    if not tally.jobs:
        click.echo("There was no run to process")
        return
    runs = {job.run for job in tally.jobs.values()}
    bad = {job.run for job in tally.jobs.values() if not job.went_well}
    for line in tally.failures():
        click.echo(line, err=True)
    click.echo(f"Processed {len(runs - bad)} of {plural(len(runs), 'run')}")
    if not tally.all_finished:
        raise click.exceptions.Exit(1)
