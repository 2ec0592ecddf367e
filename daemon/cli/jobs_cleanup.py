"""`runtable jobs cleanup`: what nothing needs any more is taken away."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import click

from daemon.cli.folder import connect, database_folder, in_option
from daemon.cli.output import plural, print_table
from daemon.person import person

MANY = 20
"""More things than this that go for the same reason are only counted."""


@click.command("cleanup")
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@in_option
def command(directory: str | None, *, dry_run: bool) -> None:
    """Remove what nothing needs any more.

    That is what the daemon removes by age (setting keep_jobs_days), and what is wrong: rows that
    cannot be read, and folders and rows that belong to no job. Results are never removed.
    """
    with connect(database_folder(directory)) as service:
        found = service.call("cleanup", by=person(), dry_run=dry_run)["found"]
    if not found:
        click.echo("There is nothing to remove.")
        return
    rows = [row for _, group in groupby(found, _reason) for row in _rows(list(group))]
    print_table(["what", "name", "why"], rows)
    number = sum(not waste["kept"] for waste in found)
    click.echo(f"{plural(number, 'thing')} {'would be removed' if dry_run else 'removed'}")


def _reason(waste: Mapping[str, Any]) -> tuple[str, str, str]:
    return waste["kind"], waste["why"], waste["kept"]


def _rows(group: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    kind, why, kept = _reason(group[0])
    text = f"{why}; stays: {kept}" if kept else why
    if len(group) > MANY:
        return [[kind, f"{len(group)} of them", text]]
    return [[kind, waste["name"], text] for waste in group]
