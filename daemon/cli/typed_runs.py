"""Runs that a person types in, as if they had arrived: `runtable listen --test`."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from daemon.cli.folder import connect, database_folder
from daemon.cli.following import follow, report
from daemon.cli.progress import Tally, view
from daemon.cli.runs import parse_runs

if TYPE_CHECKING:  # imported where needed, because every command's start would pay for it
    from daemon.cli.connection import Connection


def take_typed_runs(directory: str | None) -> None:
    """Have the runs processed that standard input names, line by line, until its end.

    They are of the database that DIR names. Exits with 1 when one could not be processed.
    """
    folder, tally = database_folder(directory), Tally()
    with connect(folder) as service:
        for runs, data in _typed():
            jobs = [job for run in runs if (job := _arrive(service, run, data, tally))]
            with view(tally) as shown:
                follow(service, folder, jobs, tally, shown)
    report(tally)


def _typed() -> Iterator[tuple[list[int], str]]:
    """The runs of each line, and whether their raw or proc data are meant."""
    is_person = sys.stdin.isatty()
    if is_person:
        click.echo('Type runs that have arrived, such as "42" or "42 proc"; Ctrl-D ends.', err=True)
    while True:
        if is_person:
            click.echo("> ", nl=False, err=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            try:
                yield _parse(line)
            except ValueError as error:
                click.echo(f"{line.strip()!r} is not understood: {error}", err=True)


def _parse(line: str) -> tuple[list[int], str]:
    words = line.split()
    data = words.pop() if words[-1] in ("raw", "proc") else "raw"
    runs = parse_runs(words)
    if runs == "all":
        raise ValueError("name runs; `reprocess all` takes all that there are")
    return runs, data


def _arrive(service: "Connection", run: int, data: str, tally: Tally) -> str | None:
    """Tell that `data` of `run` are there; the job that comes of it."""
    job = service.call("arrive", run=run, data=data)["job"]
    if job is None:
        click.echo(f"run {run}: it is stored, but no job yet; amore.log may say why", err=True)
        return None
    tally.add(job, run)
    return str(job)
