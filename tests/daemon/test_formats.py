import asyncio
import errno
import itertools
import shutil
import sqlite3
import subprocess
from contextlib import closing

import pytest
from kill_steps import killed_at, with_files_up_to
from old_formats import make_numbered
from peer import PEER, needs_peer

from ctxlib import RunTable
from daemon.database import SchemaError
from daemon.store import formats, schema
from daemon.store.table import RunsTable

TABLES = [*schema.COLUMNS, "runs", "max_diffs"]


def content(path):
    """All that is in a database: columns, indexes and triggers as they are made, and rows."""
    with closing(sqlite3.connect(path)) as connection:
        made = connection.execute(
            "SELECT type, name, tbl_name FROM sqlite_master "
            "WHERE type IN ('table', 'index', 'trigger', 'view') ORDER BY type, name"
        ).fetchall()
        tables = [name for kind, name, _ in made if kind in ("table", "view")]
        columns = {name: schema.columns(connection, name) for name in tables}
        rows = {
            name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=repr)
            for name in tables
        }
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return made, columns, rows


async def open_once(path):
    table = RunsTable(path, clock=lambda: 4e9)
    try:
        await table.open()
    finally:
        await table.close()


def backups(path):
    return sorted(entry.name for entry in path.parent.iterdir() if "backup" in entry.name)


@needs_peer
@pytest.mark.parametrize("version", [1, 2, 3])
async def test_each_is_converted_as_the_published_program_does_after_a_copy(tmp_path, version):
    path = make_numbered(tmp_path / "ours", version)
    theirs = shutil.copytree(tmp_path / "ours", tmp_path / "theirs") / path.name
    before = content(path)
    assert schema.check(path) == [
        f"it has format version {version}, older than 4: `runtable migrate DIR` converts it, as "
        f"does the daemon when it starts"
    ]
    assert RunTable(path.parent)[1, "energy"].summary() == 9.3  # readable before it is converted

    await open_once(path)
    subprocess.run([PEER, "-c", OPEN_WITH_PEER, theirs.parent], check=True, timeout=60)
    made, columns, rows = content(path)
    their_made, their_columns, their_rows = content(theirs)
    assert schema.check(path) == schema.check(theirs) == []
    assert made == their_made
    for name in schema.COLUMNS:
        assert columns[name] == their_columns[name]
        assert rows[name] == [row for row in their_rows[name] if row[0] not in THEIR_SETTINGS]
    assert backups(path) == [f"runs.sqlite.v{version}.backup"]
    assert content(formats.backup_path(path, version)) == before
    await open_once(path)
    assert content(path)[2] == rows
    assert backups(path) == [f"runs.sqlite.v{version}.backup"]
    assert RunTable(path.parent).table()["energy"].tolist() == [9.3, 9.4]


OPEN_WITH_PEER = """
import sys
from damnit.backend.db import DamnitDB
DamnitDB.from_dir(sys.argv[1]).update_views()
"""
THEIR_SETTINGS = ("damnit_python", "concurrent_jobs")  # which it adds when it opens a database


async def test_what_a_killed_published_program_left_is_converted_too(tmp_path):
    path = make_numbered(tmp_path, 1)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("ALTER TABLE run_variables ADD COLUMN attributes")
        connection.executescript(schema.TAG_TABLES)
    await open_once(path)
    assert schema.check(path) == []


async def test_the_copy_of_another_database_is_kept(tmp_path):
    path = make_numbered(tmp_path, 3)
    formats.backup_path(path, 3).write_bytes(b"somebody's")
    await open_once(path)
    assert backups(path) == ["runs.sqlite.v3.backup", "runs.sqlite.v3.backup-2"]
    assert formats.backup_path(path, 3).read_bytes() == b"somebody's"


def version_of(path):
    with closing(sqlite3.connect(path)) as connection:
        return schema.format_version(connection)


def test_killed_at_any_step_it_is_the_old_or_the_new_one(tmp_path):
    original = make_numbered(tmp_path / "original", 1)
    before = content(original)
    found = set()
    for number in itertools.count(1):
        path = shutil.copytree(original.parent, tmp_path / f"{number}") / original.name
        killed = killed_at(number, lambda path=path: asyncio.run(open_once(path)))
        version = version_of(path)
        found.add(version)
        if version == 1:
            assert content(path) == before
        asyncio.run(open_once(path))
        assert schema.check(path) == []
        assert backups(path) == ["runs.sqlite.v1.backup"]
        assert content(formats.backup_path(path, 1)) == before
        if not killed:
            break
    assert found == {1, 4}
    assert number > 30


def test_on_a_full_disk_it_stays_the_old_one(tmp_path):
    original = make_numbered(tmp_path / "original", 1)
    before, size = content(original), original.stat().st_size
    outcomes = []

    async def refused(path):
        with pytest.raises(SchemaError, match=r"no copy of it: .*make room|Is its disk full\?"):
            await open_once(path)

    for limit in (0, size // 2, size, 10 * size):
        path = shutil.copytree(original.parent, tmp_path / f"{limit}") / original.name
        outcomes.append(with_files_up_to(limit, lambda path=path: asyncio.run(open_once(path))))
        if not outcomes[-1]:
            assert with_files_up_to(limit, lambda path=path: asyncio.run(refused(path)))
            assert content(path) == before
            assert [name for name in backups(path) if "tmp" in name] == []
    assert outcomes == [False, False, False, True]


async def test_without_a_copy_there_is_no_conversion(tmp_path, monkeypatch):
    path = make_numbered(tmp_path, 2)
    before = path.read_bytes()

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(formats, "_copy", refuse)
    with pytest.raises(SchemaError, match=r"v2.backup could not be written .*No space.*make room"):
        await open_once(path)
    assert path.read_bytes() == before
