"""`runtable run`: have a backend execute a command, under its limits, and wait for it."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daemon.cli.chosen_backend import chosen_backend
from daemon.cli.folder import connect, database_folder, in_option, program

if TYPE_CHECKING:  # imported where needed, because every command's start would pay for it
    from daemon.cli.connection import Connection

INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended, as shells have it."""
ENDED = ("finished", "failed", "stopped", "canceled")


@click.command("run")
@click.option("--backend", metavar="NAME|FILE", default="local", show_default=True, help="Where.")
@click.option(
    "--time",
    "seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    help="End it after S seconds. Default: as the configuration says.",
)
@click.option("--no-wait", is_flag=True, help="Hand it to the daemon and return.")
@click.argument("command", metavar="[COMMAND...]", nargs=-1, type=click.UNPROCESSED)
@in_option
def command(
    backend: str,
    seconds: float | None,
    no_wait: bool,
    command: tuple[str, ...],
    directory: str | None,
) -> None:
    """Have a backend execute a command, and wait for it.

    Put -- before the COMMAND; one text alone may be a whole shell command. Without one it is that
    of the configuration. Its output is in a log of its own, which `jobs log ID` shows. Exits with 1
    when it did not succeed.
    """
    asked: dict[str, Any] = chosen_backend(backend)
    if command:
        asked["command"] = command[0] if len(command) == 1 else shlex.join(command)
    if seconds is not None:
        asked["timeout"] = seconds
    with connect(database_folder(directory)) as service:
        if no_wait and service.daemon is None:
            raise click.ClickException("no daemon runs: leave out --no-wait, or start one")
        [job] = service.call("run", **asked)["jobs"]
        click.echo(f"job {job['id']}", err=True)
        if no_wait:
            return
        try:
            last = _followed(service, job["id"], asked["backend"])
        except KeyboardInterrupt:
            who = "What has begun" if service.daemon is None else "The daemon"
            click.echo(f"{who} goes on; `{program()} jobs stop {job['id']}` ends it", err=True)
            raise click.exceptions.Exit(INTERRUPTED) from None
        log = service.call("job", job=job["id"])["log"]
    why = f": {last['reason']}" if last.get("reason") else ""
    where = f"; its output is in {log}" if Path(log).exists() else ""
    click.echo(f"{last.get('state', 'left to a daemon')}{why}{where}", err=True)
    if last.get("state") in ENDED[1:]:
        sys.exit(1)


def _followed(service: "Connection", job: str, backend: str) -> dict[str, Any]:
    """The last that is heard of a job; says meanwhile what it waits for."""
    last: dict[str, Any] = {}
    for item in service.stream("follow", jobs=[job]):
        if item["kind"] == "waiting" and item["reason"]:
            click.echo(f"{backend}: {item['reason']}", err=True)
        if item["kind"] != "job" or item["id"] != job:
            continue
        if item["state"] == "queued" and item["reason"] and item["reason"] != last.get("reason"):
            click.echo(f"waits: {item['reason']}", err=True)
        last = item
    return last
