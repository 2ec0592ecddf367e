"""`runtable migrate`: bring a database folder of an older DAMNIT up to the current format."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import click

from daemon.cli.folder import DATABASE, database_folder
from daemon.cli.output import plural

KINDS = ("v0-to-v1", "intermediate-v1")
"""Formats from before the numbered ones, by the names that DAMNIT gives their conversions."""


@click.command("migrate")
@click.argument("which", metavar="[v0-to-v1|intermediate-v1] [DIR]", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Only say what would be done; nothing is written.")
def command(which: tuple[str, ...], dry_run: bool) -> None:
    """Convert the folder of an older DAMNIT; the old is kept.

    Formats 1 to 3 are also converted by whatever opens the folder to write, as the daemon does.
    Those from before are converted by this command alone, which finds out which it is; they can be
    named, too.
    """
    kind = which[0] if which and which[0] in KINDS else None
    rest = which if kind is None else which[1:]
    if len(rest) > 1:
        raise click.UsageError(
            f"{' '.join(which)}: give one folder; formats are {', '.join(KINDS)}"
        )
    folder = database_folder(rest[0] if rest else None)

    import sqlite3

    try:
        _migrate(folder, kind, dry_run=dry_run)
    except (sqlite3.Error, OSError) as error:
        raise click.ClickException(
            f"{folder / DATABASE} was not converted, and is as it was: {error}"
        ) from error


def _migrate(folder: Path, kind: str | None, *, dry_run: bool) -> None:
    from daemon.store import formats, schema

    path = folder / DATABASE
    found = schema.format_of(path)
    if isinstance(found, str):
        kind = kind or found
    elif kind is None:
        if problems := schema.check(path, oldest=formats.OLDEST):
            raise click.ClickException(f"{path} cannot be converted: {'; '.join(problems)}")
        if found is None or found >= schema.FORMAT:
            click.echo(f"{folder} has format {found or schema.FORMAT}: there is nothing to do.")
            return
    with nullcontext() if dry_run else _alone(folder):
        if kind is not None:
            _migrate_old(folder, kind, dry_run=dry_run)
        else:
            assert isinstance(found, int)
            _migrate_numbered(folder, found, dry_run=dry_run)


def _migrate_numbered(folder: Path, version: int, *, dry_run: bool) -> None:
    import asyncio

    from daemon.database import SchemaError
    from daemon.log import log_to
    from daemon.store import formats, schema
    from daemon.store.table import RunsTable

    path = folder / DATABASE
    click.echo(f"{path} has format {version}, and needs for format {schema.FORMAT}:")
    for words in formats.missing(version):
        click.echo(f"  {words}")
    backup = formats.backup_path(path, version).name
    if dry_run:
        click.echo(f"Nothing was changed. Without --dry-run it is copied to {backup} first.")
        return

    async def convert() -> None:
        table = RunsTable(path)
        await table.open()
        await table.close()

    log_to(folder, terminal=False)
    try:
        asyncio.run(convert())
    except SchemaError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Converted; {backup} is a copy of it as it was.")


def _migrate_old(folder: Path, kind: str, *, dry_run: bool) -> None:
    from daemon.store.formats_old import MigrationError, migrate

    try:
        plan = migrate(folder, kind, dry_run=dry_run)
    except MigrationError as error:
        raise click.ClickException(str(error)) from error
    would = "would have" if dry_run else "has"
    click.echo(
        f"The new table {would} {plural(plan.runs, 'run')} with {plural(plan.values, 'value')}."
    )
    for file in plan.files:
        words = [
            *(f"{name} becomes an array with its dimensions" for name in file.arrays),
            *(f"{name} is marked as {objtype}" for name, objtype in file.types.items()),
            *(f"{name} gets a thumbnail" for name in file.pictures),
        ]
        click.echo(f"  {file.path.name}: {'; '.join(words)}")
    for path, why in plan.unreadable:
        click.echo(f"Not readable, stays as it is: {path.name} ({why})", err=True)
    for value in plan.lost:
        click.echo(f"Not in the new table, as nothing tells what it was: {value}", err=True)
    table, files = (backup.name for backup in plan.backups)
    if dry_run:
        click.echo(
            f"Nothing was changed. Without --dry-run the old ones are kept: {table}, {files}"
        )
    else:
        click.echo(f"Converted; the old table is {table}, the old run files are in {files}.")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """The folder's lock, so that no daemon and no other command is at work in it."""
    from daemon.lock import FolderLock

    lock = FolderLock(folder)
    if not lock.acquire("command", time.time()):
        holder = lock.holder() or "another process"
        raise click.ClickException(f"{folder} is in use by {holder}: end that and try again")
    try:
        yield
    finally:
        lock.release()
