import errno
import shutil
import sqlite3
import subprocess
from contextlib import closing

import h5py
import numpy as np
import pytest
import xarray as xr
from kill_steps import killed_at, number_of_steps, with_files_up_to
from old_formats import make_intermediate, make_v0
from peer import PEER, ask, needs_peer

from ctxlib import RunTable
from ctxlib.runfile import RunFile
from daemon.store import schema
from daemon.store.formats_old import INTERMEDIATE, V0, MigrationError, migrate
from daemon.store.storage import StoredResult
from daemon.store.storage_folder import FolderStorage

MIGRATE_WITH_PEER = """
import sys
from damnit.cli import main
main(["migrate", sys.argv[1]])
"""
MAKE = {V0: make_v0, INTERMEDIATE: make_intermediate}


def tree(folder):
    """Every file of a folder with its content, but SQLite's, whose rows count."""
    return {
        str(path.relative_to(folder)): dump(path) if ".sqlite" in path.name else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def dump(path):
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def cells(path):
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT proposal, run, name, value, timestamp, max_diff FROM run_variables"
        return {row[:3]: row[3:] for row in connection.execute(query)}


@needs_peer
@pytest.mark.parametrize("kind", [V0, INTERMEDIATE])
def test_it_gives_what_the_published_program_gives(tmp_path, kind):
    folder = MAKE[kind](tmp_path / "ours").parent
    theirs = tmp_path / "theirs"
    shutil.copytree(folder, theirs)
    before = tree(folder)
    plan = migrate(folder, kind, dry_run=True)
    assert tree(folder) == before
    assert migrate(folder, kind, dry_run=False) == plan

    subprocess.run([PEER, "-c", MIGRATE_WITH_PEER, kind], cwd=theirs, check=True, timeout=60)
    ours, other = cells(folder / "runs.sqlite"), cells(theirs / "runs.sqlite")
    assert ours.keys() >= other.keys()
    for key, (value, _, difference) in other.items():
        if key[2] != "image":
            assert ours[key][0] == value, key
            assert difference in (None, ours[key][2]), key  # it finds fewer
        else:
            assert ours[key][0][:4] == b"\x89PNG"
    assert schema.check(folder / "runs.sqlite") == []
    for run in (1, 2) if kind == V0 else (1,):
        with RunFile(folder / f"extracted_data/p1234_r{run}.h5") as file:
            array = file.read("line")
        with closing(h5py.File(theirs / f"extracted_data/p1234_r{run}.h5")) as file:
            their_attributes = dict(file["line"].attrs)
        their_file = theirs / f"extracted_data/p1234_r{run}.h5"
        expected = xr.load_dataset(their_file, group="line", engine="h5netcdf")
        assert their_attributes["_damnit_objtype"] == "dataarray"
        xr.testing.assert_equal(array, next(iter(expected.data_vars.values())))
    read = ask(folder, 1)
    assert read["variables"].keys() >= {"line", "image"}
    kept = {name: content for name, content in tree(folder).items() if "backup" in name}
    assert (
        kept["runs." + ("v0" if kind == V0 else kind) + "-backup.sqlite"] == before["runs.sqlite"]
    )
    for name, content in before.items():
        if name.startswith("extracted_data"):
            assert content in kept.values()


def test_pickles_are_not_read_and_what_nothing_tells_is_named(tmp_path):
    path = make_v0(tmp_path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("ALTER TABLE runs ADD COLUMN odd")
        connection.execute("UPDATE runs SET odd = x'8004' WHERE runnr = 1")
    plan = migrate(tmp_path, V0, dry_run=False)
    assert plan.lost == ["odd of run 1"]
    assert (plan.runs, len(plan.files), plan.unreadable) == (3, 2, [])
    table = RunTable(tmp_path)
    assert table.runs() == [1, 2, 3]
    assert table[1, "energy"].summary() == 9.3
    assert table[3, "energy"].summary() == 9.5
    line = table[2, "line"].read()
    assert (line.dims, float(line.moment), line.x.values[-1]) == (("x",), 7.0, 4.5)
    assert cells(path)[1234, 1, "comment"][0] == "a good one"
    with FolderStorage(tmp_path) as storage:
        storage.save_result((1234, 2), StoredResult("new", np.arange(3.0)))
        storage.save_result((1234, 3), StoredResult("new", 5))
    table = RunTable(tmp_path)
    assert table[2, "line"].read().identical(line)
    assert (table[2, "new"].read().tolist(), table[3, "new"].read()) == ([0.0, 1.0, 2.0], 5)
    with pytest.raises(MigrationError, match="has format 4: `runtable migrate` without"):
        migrate(tmp_path, V0, dry_run=False)


def test_coordinates_that_fit_twice_are_not_guessed(tmp_path):
    make_v0(tmp_path)
    with h5py.File(tmp_path / "extracted_data/p1234_r1.h5", "a") as file:
        for name, value in {
            "square/data": np.ones((3, 3)),
            "square/x": np.arange(3.0),
            "square/y": np.arange(3.0) * 2,
            "part/data": np.ones((3, 4)),
            "part/x": np.arange(3.0),
        }.items():
            file[name] = value
    migrate(tmp_path, V0, dry_run=False)
    with RunFile(tmp_path / "extracted_data/p1234_r1.h5") as file:
        square, part = file.read("square"), file.read("part")
    assert {name: member.shape for name, member in square.items()} == {
        "data": (3, 3),
        "x": (3,),
        "y": (3,),
    }
    assert (part.dims, part.x.values.tolist()) == (("x", "dim_1"), [0.0, 1.0, 2.0])


def test_a_damaged_run_file_stays_and_the_others_are_converted(tmp_path):
    make_v0(tmp_path)
    damaged = tmp_path / "extracted_data/p1234_r1.h5"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    before = damaged.read_bytes()
    plan = migrate(tmp_path, V0, dry_run=False)
    assert [path for path, _ in plan.unreadable] == [damaged]
    assert damaged.read_bytes() == before
    assert RunTable(tmp_path)[2, "line"].read().dims == ("x",)


@pytest.mark.parametrize("name", ["runs.v0-backup.sqlite", "extracted_data.v0-backup/p1234_r1.h5"])
def test_what_is_in_the_way_of_the_copy_stays(tmp_path, name):
    path = make_v0(tmp_path)
    theirs = tmp_path / name
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_bytes(b"theirs")
    before = tree(tmp_path / "extracted_data"), path.read_bytes()
    with pytest.raises(MigrationError, match="in the way"):
        migrate(tmp_path, V0, dry_run=False)
    assert (tree(tmp_path / "extracted_data"), path.read_bytes()) == before
    assert theirs.read_bytes() == b"theirs"


@pytest.mark.parametrize("kind", [V0, INTERMEDIATE])
def test_killed_at_any_step_it_can_be_begun_again(tmp_path, kind):
    original = MAKE[kind](tmp_path / "original").parent
    wanted = shutil.copytree(original, tmp_path / "wanted")
    migrate(wanted, kind, dry_run=False)
    before = dump(original / "runs.sqlite")
    expected = set(tree(wanted))
    whole = shutil.copytree(original, tmp_path / "whole")
    end = number_of_steps(lambda: migrate(whole, kind, dry_run=False))
    assert end > 30
    # The last steps are those in which the new takes the place of the old.
    for number in sorted({*range(1, end, 7), *range(end - 12, end + 2)}):
        folder = shutil.copytree(original, tmp_path / f"{number}")
        killed = killed_at(number, lambda folder=folder: migrate(folder, kind, dry_run=False))
        if schema.check(folder / "runs.sqlite"):
            assert dump(folder / "runs.sqlite") == before
            migrate(folder, kind, dry_run=False)
        assert {*tree(folder)} == expected
        assert not (folder / ".migrating").exists()
        assert dump(folder / "runs.sqlite") == dump(wanted / "runs.sqlite")
        [backup] = [path for path in folder.iterdir() if path.name.endswith("-backup.sqlite")]
        assert dump(backup) == before
        for path in original.glob("extracted_data/*"):
            backups = [*folder.glob(f"extracted_data*/{path.name}")]
            assert path.read_bytes() in [backup.read_bytes() for backup in backups]
        shutil.rmtree(folder)
        assert killed == (number <= end)


def test_on_a_full_disk_the_old_one_stays(tmp_path):
    original = make_v0(tmp_path / "original").parent
    before, size = tree(original), (original / "runs.sqlite").stat().st_size
    outcomes = []
    for limit in (0, size // 2, 20 * size):
        folder = shutil.copytree(original, tmp_path / f"{limit}")
        work = lambda folder=folder: migrate(folder, V0, dry_run=False)  # noqa: E731
        outcomes.append(with_files_up_to(limit, work))
        if not outcomes[-1]:
            assert tree(folder) == before
    assert outcomes == [False, False, True]


def test_where_files_can_have_one_name_only_they_are_copied(tmp_path, monkeypatch):
    path = make_v0(tmp_path)
    before = tree(tmp_path)

    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    migrate(tmp_path, V0, dry_run=False)
    assert schema.check(path) == []
    assert dump(tmp_path / "runs.v0-backup.sqlite") == before["runs.sqlite"]
    for run in (1, 2):
        name = f"p1234_r{run}.h5"
        kept = tmp_path / "extracted_data.v0-backup" / name
        assert kept.read_bytes() == before[f"extracted_data/{name}"]
