"""`runtable reprocess`: compute variables of runs again, and wait for it."""

from typing import TYPE_CHECKING, Any

import click

from daemon.cli.folder import connect, database_folder, in_option, program
from daemon.cli.output import plural
from daemon.cli.progress import Tally, view
from daemon.cli.runs import format_runs, parse_runs

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
@click.option("--mock", is_flag=True, help="With an empty run, without reading data.")
@click.option("--direct", is_flag=True, help="On this machine, which is the default.")
@click.option(
    "--foreground",
    is_flag=True,
    help="One run after the other in a fresh process, with its output shown here.",
)
@click.option("--no-wait", is_flag=True, help="Hand the work to the daemon and return.")
@in_option
def command(
    runs: tuple[str, ...],
    match: tuple[str, ...],
    var: tuple[str, ...],
    mock: bool,
    direct: bool,  # noqa: ARG001 - there is no other way yet; notes and scripts name it
    foreground: bool,
    no_wait: bool,
    directory: str | None,
) -> None:
    """Compute variables of runs again, and wait for it.

    RUN is a run, a list such as 1-100,205, or "all". The running daemon does the work and this command follows it; without a daemon the command
    does the work itself. Runs that do not exist are named and skipped. Exits with 1 when a run
    could not be processed.
    """
    try:
        wanted = parse_runs(runs)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if foreground and no_wait:
        raise click.UsageError("--foreground shows the output here, so it cannot go with --no-wait")
    folder = database_folder(directory)
    request = {"match": list(match), "variables": list(var) or None, "mock": mock}
    with connect(folder) as service:
        if no_wait and not service.remote:
            raise click.ClickException(
                f"no daemon runs for {folder}, so the work is only done while this command "
                f"waits: leave out --no-wait, or start one with "
                f"`{program()} listen {folder} --daemonize`"
            )
        answer = service.call("reprocess", runs=wanted, fresh=foreground, **request)
        _say_skipped(answer["skipped"])
        jobs = answer["jobs"]
        if not jobs:
            raise click.ClickException("there is no run to process")
        if no_wait:
            click.echo(
                f"The daemon processes {_runs_of(jobs)}; `{program()} jobs` shows how far it is"
            )
            return
        tally = _follow(service, jobs)
    _report(tally)


def _follow(service: "Connection", jobs: list[dict[str, Any]]) -> Tally:
    tally = Tally()
    for job in jobs:
        tally.add(job["id"], job["run"])
    try:
        with view(tally) as shown:
            for item in service.stream("follow", jobs=list(tally.jobs)):
                shown.update(tally.take(item))
    except KeyboardInterrupt:
        left = {job.run for job in tally.jobs.values() if not job.ended}
        if service.remote:
            click.echo(
                f"The daemon goes on with run {format_runs(left)}; "
                f"`{program()} jobs` shows how far it is",
                err=True,
            )
        else:
            click.echo(f"Stopping. Not processed: run {format_runs(left)}", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None
    return tally


def _say_skipped(skipped: list[dict[str, Any]]) -> None:
    by_reason: dict[str, list[int]] = {}
    for item in skipped:
        by_reason.setdefault(item["reason"], []).append(item["run"])
    for reason, runs in by_reason.items():
        click.echo(f"Skipped {_name_runs(runs)}: {reason}", err=True)


def _runs_of(jobs: list[dict[str, Any]]) -> str:
    return _name_runs([job["run"] for job in jobs])


def _name_runs(runs: list[int]) -> str:
    return f"{'run' if len(set(runs)) == 1 else 'runs'} {format_runs(runs)}"


def _report(tally: Tally) -> None:
    runs = {job.run for job in tally.jobs.values()}
    good = runs - {job.run for job in tally.jobs.values() if job.state != "finished"}
    failures = list(tally.failures())
    for line in failures:
        click.echo(line, err=True)
    click.echo(f"Processed {len(good)} of {plural(len(runs), 'run')}")
    if not tally.all_finished:
        raise click.exceptions.Exit(1)
