"""`runtable events`: what was announced, and what could not be understood."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from daemon.cli.folder import connect, program, quote, served_folder
from daemon.cli.output import local_time, print_table

LIMIT = 50


@click.command("events")
@click.argument("names", metavar="[DIR] [ID]...", nargs=-1)
@click.option(
    "--retry",
    is_flag=True,
    help="Read the dead letters with these IDs, or all, once more: what is an event now is taken.",
)
def command(names: tuple[str, ...], retry: bool) -> None:
    """List the latest events and the dead letters.

    Dead letters are messages that could not be understood; each is shown with the reason.
    """
    directory, ids = _directory_and_ids(names, retry)
    folder = served_folder(directory)
    with connect(folder) as service:
        if retry:
            found = service.call("retry-events", ids=ids or None)
        else:
            found = service.call("events", limit=LIMIT)
    if retry:
        _tell_retried(found)
    else:
        _tell(found["events"], found["dead_letters"], quote(folder))


def _directory_and_ids(names: Sequence[str], retry: bool) -> tuple[str | None, list[int]]:
    """What the arguments mean: numbers are IDs of dead letters where such are asked for."""
    ids = [int(name) for name in names if retry and name.isascii() and name.isdecimal()]
    others = [name for name in names if not (retry and name.isascii() and name.isdecimal())]
    if len(others) > 1:
        meaning = "one folder and IDs of dead letters are numbers" if retry else "one folder"
        raise click.UsageError(f"{' '.join(others)} is too much: {meaning}")
    if retry and ids and others and not Path(others[0]).is_dir():
        raise click.UsageError(
            f"{others[0]!r} is neither the number of a dead letter nor a folder that is there"
        )
    return (others[0] if others else None), ids


def _tell(events: list[dict[str, Any]], letters: list[dict[str, Any]], folder: str) -> None:
    if events:
        names = ("proposal", "run", "data", "source", "state")
        print_table(
            ["time", *names],
            [[local_time(event["time"]), *(event[name] for name in names)] for event in events],
        )
    else:
        click.echo("No events so far.")
    if letters:
        click.echo("\nDead letters:")
        print_table(
            ["time", "id", "source", "error", "message"],
            [
                [local_time(letter["time"]), *map(letter.get, ("id", "source", "error", "payload"))]
                for letter in letters
            ],
        )
        click.echo(f"`{program()} events {folder} --retry [ID]...` reads them once more.")


def _tell_retried(found: dict[str, Any]) -> None:
    """Say what became of each dead letter; exit code 1 when some are still none that is read."""
    for letter in found["stored"]:
        event = letter["event"]
        what = f"{event['data']} data of run {event['run']}, proposal {event['proposal']}"
        click.echo(f"{letter['id']}: {what}{'' if letter['new'] else ' (known already)'}")
    for letter in found["kept"]:
        click.echo(f"{letter['id']} stays: {letter['error']}", err=True)
    if not (found["stored"] or found["kept"]):
        click.echo("There are no dead letters.")
    if found["kept"]:
        raise SystemExit(1)
