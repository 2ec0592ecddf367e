"""`runtable reprocess`: compute variables of runs again, and wait for it."""

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daemon.cli.folder import connect, database_folder, in_option, program, quote
from daemon.cli.output import plural
from daemon.cli.plan import name_runs, plan_lines
from daemon.cli.progress import Tally, View, Waits, job_line, view
from daemon.cli.runs import parse_runs

if TYPE_CHECKING:  # imported where needed, because every command's start would pay for it
    from daemon.cli.connection import Connection

INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended, as shells have it."""


@click.command("reprocess")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "--match",
    multiple=True,
    metavar="TEXT",
    help="Only variables whose title contains TEXT, in upper or lower case. Repeatable.",
)
@click.option("--var", multiple=True, metavar="NAME", help="Only the variable NAME. Repeatable.")
@click.option(
    "--param",
    multiple=True,
    metavar="NAME=VALUE",
    help="Value of a parameter of the context file, for this once. Repeatable.",
)
@click.option(
    "--changed",
    is_flag=True,
    help="Of these, only variables whose results are stale; says why they are.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--mock", is_flag=True, help="With an empty run, without reading data.")
@click.option("--direct", is_flag=True, help="On this machine, which is the default.")
@click.option(
    "--foreground",
    is_flag=True,
    help="One run after the other in a fresh process on this terminal, for debugging.",
)
@click.option("--no-wait", is_flag=True, help="Hand the work to the daemon and return.")
@in_option
def command(
    runs: tuple[str, ...],
    match: tuple[str, ...],
    var: tuple[str, ...],
    param: tuple[str, ...],
    changed: bool,
    dry_run: bool,
    mock: bool,
    direct: bool,  # noqa: ARG001 - there is no other way yet; notes and scripts name it
    foreground: bool,
    no_wait: bool,
    directory: str | None,
) -> None:
    """Compute variables of runs again, and wait for it.

    RUN is a run, a list such as 1-100,205, or "all". The running daemon does the work and this
    command follows it; without a daemon the command does the work itself. Runs that do not exist
    are named and skipped. Exits with 1 when a run could not be processed.

    A result is stale when it would be another one now: its variable's code or settings have
    changed, or what they use, or a variable or parameter that it needs; comments, titles and the
    order in the file do not matter. What was never computed is stale too.
    """
    try:
        wanted = parse_runs(runs)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if foreground and (no_wait or wanted == "all"):
        raise click.UsageError("--foreground is for single runs: not all, and not with --no-wait")
    folder = database_folder(directory)
    request: dict[str, Any] = {
        "match": list(match),
        "variables": list(var) or None,
        "mock": mock,
    }
    if changed:  # a daemon of an earlier version need not know of it otherwise
        request["changed"] = True
    if param:  # a daemon of an earlier version need not know of them otherwise
        request["params"] = _parse_params(param)
    with connect(folder) as service:
        if dry_run:
            _show_plan(service, {**request, "runs": wanted})
            return
        request["foreground"] = foreground
        if no_wait:
            _hand_over(service, folder, {**request, "runs": wanted})
            return
        tally = Tally()
        try:
            if foreground and wanted != "all":
                _run_each(service, folder, request, wanted, tally)
            else:
                jobs = _submit(service, {**request, "runs": wanted}, tally)
                with view(tally) as shown:
                    _follow(service, folder, jobs, tally, shown)
        except KeyboardInterrupt:
            _say_interrupted(service, tally)
            raise click.exceptions.Exit(INTERRUPTED) from None
    _report(tally)


def _show_plan(service: "Connection", request: dict[str, Any]) -> None:
    """Say what would be done."""
    answer = service.call("plan", **request)
    _say_skipped(answer["skipped"])
    for line in plan_lines(answer, changed="changed" in request):
        click.echo(line)
    click.echo("Nothing was done, because of --dry-run")


def _parse_params(texts: Sequence[str]) -> dict[str, Any]:
    """The values in texts such as "threshold=5", the last one of a name."""
    from ctxlib.parameter import parse_value

    params = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name.strip() or not equals:
            raise click.UsageError(f"--param {text!r} is not understood: give NAME=VALUE")
        params[name.strip()] = parse_value(value)
    return params


def _hand_over(service: "Connection", folder: Path, request: dict[str, Any]) -> None:
    """Leave the work to the daemon."""
    if service.daemon is None:
        raise click.ClickException(
            f"no daemon runs for {folder}, so the work is only done while this command waits: "
            "leave out --no-wait, or start one with "
            f"`{program()} listen {quote(folder)} --daemonize`"
        )
    tally = Tally()
    if _submit(service, request, tally):
        runs = [job.run for job in tally.jobs.values()]
        click.echo(
            f"The daemon processes {name_runs(runs)}; `{program()} jobs` shows how far it is"
        )
    else:
        _report(tally)


def _run_each(
    service: "Connection",
    folder: Path,
    request: dict[str, Any],
    runs: Sequence[int],
    tally: Tally,
) -> None:
    """Run one job after the other in this terminal, while the service follows what it says."""
    from daemon.backends import ContextBroken

    python = service.call("settings")["rows"].get("context_python") or sys.executable
    for run in runs:
        if service.daemon is not None:  # it holds jobs back then, and this would wait for them
            context = service.call("status")["context"]
            if not context["ok"] and not context.get("loading"):
                raise _cannot_be_executed(folder, context["problems"])
        jobs = _submit(service, {**request, "runs": [run]}, tally)
        try:
            _run_here(service, folder, jobs, python, tally)
        except (ContextBroken, OSError, ValueError) as error:
            # Nobody else is to wait for it, or to try it again.
            service.call("take-back", jobs=jobs, reason=f"it could not be started: {error}")
            for item in service.stream("follow", jobs=jobs):
                tally.take(item)
            if isinstance(error, ContextBroken):
                raise _cannot_be_executed(folder, error.problems) from error
            raise click.ClickException(f"run {run} could not be started: {error}") from error
        for job in jobs:
            click.echo(job_line(tally.jobs[job]), err=True)


def _run_here(
    service: "Connection", folder: Path, jobs: list[str], python: str, tally: Tally
) -> None:
    """Run the attempts of `jobs` as they are handed out; raises what `run_here` does."""
    import asyncio

    from daemon.backends.sequential import run_here
    from daemon.library import install

    waits = Waits()
    with closing(service.stream("follow", jobs=jobs)) as items:
        for item in items:
            waits.update(tally.take(item))
            if item["kind"] == "job" and item["state"] == "dispatched":
                attempt = folder / "jobs" / item["id"] / str(item["attempt"])
                if attempt.exists():  # otherwise it is told of once more when it does
                    asyncio.run(run_here(attempt, folder, install(folder), python))


def _cannot_be_executed(folder: Path, problems: Sequence[dict[str, Any]]) -> click.ClickException:
    from ctxlib.errors import Problem

    said = "\n".join(f"  {Problem.from_json(problem)}" for problem in problems)
    return click.ClickException(f"{folder / 'context.py'} cannot be executed:\n{said}")


def _submit(service: "Connection", request: dict[str, Any], tally: Tally) -> list[str]:
    """Ask for the work, name the runs that are skipped, and count the jobs in."""
    answer = service.call("reprocess", **request)
    _say_skipped(answer["skipped"])
    if "changed" in request:
        tally.current += answer["current"]
        for line in plan_lines(answer, changed=True):
            click.echo(line)
    for job in answer["jobs"]:
        tally.add(job["id"], job["run"])
    return [job["id"] for job in answer["jobs"]]


def _say_skipped(skipped: Sequence[dict[str, Any]]) -> None:
    by_reason: dict[str, list[int]] = {}
    for item in skipped:
        by_reason.setdefault(item["reason"], []).append(item["run"])
    for reason, runs in by_reason.items():
        click.echo(f"Skipped {name_runs(runs)}: {reason}", err=True)


def _follow(
    service: "Connection", folder: Path, jobs: list[str], tally: Tally, shown: View
) -> None:
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
            raise _cannot_be_executed(folder, context["problems"])


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


def _say_interrupted(service: "Connection", tally: Tally) -> None:
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


def _report(tally: Tally) -> None:
    """Say in the end what went wrong; exits with 1 when a run was not processed."""
    if not tally.jobs and tally.current:
        return  # nothing is stale, which has been said
    if not tally.jobs:
        raise click.ClickException("there is no run to process")
    runs = {job.run for job in tally.jobs.values()}
    bad = {job.run for job in tally.jobs.values() if not job.went_well}
    for line in tally.failures():
        click.echo(line, err=True)
    click.echo(f"Processed {len(runs - bad)} of {plural(len(runs), 'run')}")
    if not tally.all_finished:
        raise click.exceptions.Exit(1)
