"""Make a database folder from nothing: table, context file, and the runs that are there already."""

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path

import click

from daemon.cli.folder import DATABASE
from daemon.database import Database, SchemaError
from daemon.events.filesystem import present_events
from daemon.lock import FolderLock
from daemon.service import Service
from daemon.settings import Settings
from daemon.store.likeness import Likeness, UnusableError, read_likeness, write_likeness
from daemon.store.table import RunsTable
from daemon.typed_settings import Value


def make_database(
    folder: Path,
    proposal: int,
    context: bytes,
    settings: Mapping[str, Value],
    *,
    like: Path | None,
    mark_runs: bool,
) -> int:
    """Make `folder` with `context` as its context file and an empty table for `proposal`.

    `settings` are set. `like` is another database folder, whose settings and user-editable
    variables are taken over. With `mark_runs` the runs on disk are remembered as seen, so that no
    daemon processes them; returns how many folders those were. Raises ClickException when `like`
    cannot be used or somebody else is at work in `folder`.
    """
    try:
        likeness = None if like is None else read_likeness(like / DATABASE)
    except UnusableError as error:
        raise click.ClickException(str(error)) from error
    os.umask(Settings().umask)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(folder)
    if not lock.acquire("command", time.time()):
        raise click.ClickException(f"{folder} is in use by {lock.holder() or 'another process'}")
    try:
        # Exclusive: a file that somebody made since we looked is theirs.
        with (folder / "context.py").open("xb") as file:
            file.write(context)
        return asyncio.run(_make_tables(folder, proposal, settings, likeness, mark_runs))
    except SchemaError as error:
        raise click.ClickException(str(error)) from error
    finally:
        lock.release()


async def _make_tables(
    folder: Path,
    proposal: int,
    settings: Mapping[str, Value],
    likeness: Likeness | None,
    mark_runs: bool,
) -> int:
    table = RunsTable(folder / DATABASE, proposal)
    await table.open()
    await table.close()
    if likeness is not None:
        database = Database(folder / DATABASE, wal=False)
        await database.write(lambda connection: write_likeness(connection, likeness))
        await database.close()
    service = Service(folder)
    await service.open(None)
    try:
        for key, value in settings.items():
            await service.table.set_setting(key, value)
        root = await service.proposal_path()
        if root is None or not mark_runs:
            return 0
        return await service.inbox.mark_seen(
            present_events(root, service.settings.runs, proposal, time.time())
        )
    finally:
        await service.close()
