"""`runtable reprocess`: compute variables of runs again, and wait for it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from daemon.cli.chosen_backend import chosen_backend
from daemon.cli.folder import PROPOSAL, connect, database_folder, in_option, program, quote
from daemon.cli.following import follow, report, say_interrupted, say_skipped, submit
from daemon.cli.foreground import run_each
from daemon.cli.live_log import live_logs
from daemon.cli.plan import name_runs, plan_lines
from daemon.cli.progress import Tally, view
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
@click.option("--direct", is_flag=True, help="All on this machine: short for --backend local.")
@click.option(
    "--backend",
    metavar="NAME|FILE",
    help="All variables of a run in one job there, for this once.",
)
@click.option(
    "--foreground",
    is_flag=True,
    help="One run after the other in a fresh process on this terminal, for debugging.",
)
@click.option(
    "--watch", is_flag=True, help="One run after the other, with its log on this terminal."
)
@click.option("--no-wait", is_flag=True, help="Hand the work to the daemon and return.")
@click.option(
    "--concurrent-jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="At most N of these runs at once. Default: as many as there may be jobs at once.",
)
@click.option(
    "--proposal",
    type=PROPOSAL,
    metavar="N",
    help="RUN is of proposal N. Default: the database's.",
)
@in_option
def command(
    runs: tuple[str, ...],
    match: tuple[str, ...],
    var: tuple[str, ...],
    param: tuple[str, ...],
    changed: bool,
    dry_run: bool,
    mock: bool,
    direct: bool,
    backend: str | None,
    foreground: bool,
    watch: bool,
    no_wait: bool,
    concurrent_jobs: int | None,
    proposal: int | None,
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
    for misused, words in (
        (foreground and no_wait, "--foreground runs here: not with --no-wait"),
        (foreground and wanted == "all", "--foreground is for single runs: not for all"),
        (foreground and backend is not None, "--foreground runs here: not with --backend"),
        (watch and foreground, "--foreground shows its output by itself: not with --watch"),
        (watch and no_wait, "--watch waits for jobs and shows them: not with --no-wait"),
        (direct and backend not in (None, "local"), "--direct runs here: not with --backend"),
    ):
        if misused:
            raise click.UsageError(words)
    folder = database_folder(directory)
    request: dict[str, Any] = {
        "match": list(match),
        "variables": list(var) or None,
        "mock": mock,
    }
    later = {  # a daemon of an earlier version need not know of them unless they are asked for
        "changed": changed,
        "params": _parse_params(param),
        "proposal": proposal,
        **chosen_backend("local" if direct and not foreground else backend, variables=True),
    }
    request |= {name: value for name, value in later.items() if value}
    at_once = 1 if watch else concurrent_jobs
    with connect(folder) as service:
        if dry_run:
            _show_plan(service, {**request, "runs": wanted})
            return
        request["foreground"] = foreground
        if at_once is not None:
            request["at_once"] = at_once
        if no_wait:
            _hand_over(service, folder, {**request, "runs": wanted})
            return
        tally = _wait_for(service, folder, request, wanted, watch=watch)
    report(tally)


def _wait_for(
    service: "Connection",
    folder: Path,
    request: dict[str, Any],
    wanted: list[int] | Literal["all"],
    *,
    watch: bool,
) -> Tally:
    """Have the work done and show how it goes; what came of it."""
    tally = Tally()
    try:
        if request["foreground"] and wanted != "all":
            run_each(service, folder, request, wanted, tally)
        else:
            jobs = submit(service, {**request, "runs": wanted}, tally)
            with live_logs(folder) if watch else view(tally) as shown:
                follow(service, folder, jobs, tally, shown)
    except KeyboardInterrupt:
        say_interrupted(service, tally)
        raise click.exceptions.Exit(INTERRUPTED) from None
    return tally


def _show_plan(service: "Connection", request: dict[str, Any]) -> None:
    """Say what would be done."""
    answer = service.call("plan", **request)
    say_skipped(answer["skipped"])
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
    if submit(service, request, tally):
        runs = [job.run for job in tally.jobs.values()]
        click.echo(
            f"The daemon processes {name_runs(runs)}; `{program()} jobs` shows how far it is"
        )
    else:
        report(tally)
