"""`migrate`: what it says and does about folders of older formats."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from old_formats import make_intermediate, make_numbered, make_v0

from daemon.cli import main
from daemon.lock import FolderLock
from daemon.store import schema


def migrate(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["migrate", *map(str, arguments)], prog_name="damnit")


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_numbered_format_first_dry_then_done_then_nothing_to_do(tmp_path: Path) -> None:
    path = make_numbered(tmp_path, 2)
    before = files(tmp_path)
    dry = migrate("--dry-run", tmp_path)
    assert "has format 2" in dry.output
    assert "tags and variable_tags" in dry.output
    assert "run_variables.attributes" not in dry.output
    assert "Nothing was changed. Without --dry-run it is copied to runs.sqlite.v2" in dry.output
    assert files(tmp_path) == before
    done = migrate(tmp_path)
    assert (done.exit_code, dry.exit_code) == (0, 0)
    assert "runs.sqlite.v2.backup is a copy of it as it was" in done.output
    assert "converted from format 2 to 4" in (tmp_path / "amore.log").read_text()
    assert schema.check(path) == []
    again = migrate(tmp_path)
    assert (again.exit_code, "has format 4: there is nothing to do" in again.output) == (0, True)


@pytest.mark.parametrize(("make", "kind"), [(make_v0, "v0-to-v1"), (make_intermediate, "interm")])
def test_older_ones_are_found_out_and_can_be_named(tmp_path: Path, make, kind, monkeypatch) -> None:
    path = make(tmp_path)
    before = files(tmp_path)
    dry = migrate("--dry-run", tmp_path)
    assert (dry.exit_code, files(tmp_path) == before) == (0, True)
    assert "image gets a thumbnail" in dry.output
    monkeypatch.chdir(tmp_path)
    other, own = ("intermediate-v1", "v0-to-v1")[:: 1 if kind == "v0-to-v1" else -1]
    wrong = migrate(other)
    assert wrong.exit_code == 1
    assert f"another old format: `runtable migrate {own}` converts it" in wrong.output
    done = migrate(own)  # as the published program has it: in the current folder
    assert done.exit_code == 0, done.output
    assert schema.check(path) == []
    assert migrate(own).exit_code == 1


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    assert "no database in" in migrate(tmp_path).output
    path = make_v0(tmp_path)
    assert migrate("a", "b").exit_code == 2
    lock = FolderLock(tmp_path)
    assert lock.acquire("command", time.time())
    before = files(tmp_path)
    held = migrate(tmp_path)
    assert (held.exit_code, "is in use by a command" in held.output) == (1, True)
    assert migrate("--dry-run", tmp_path).exit_code == 0
    assert files(tmp_path) == before
    lock.release()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE metameta")
    broken = migrate(tmp_path)
    assert (broken.exit_code, "was not converted, and is as it was" in broken.output) == (1, True)
    path.write_bytes(b"no database" * 100)
    assert "was not converted, and is as it was: file is not a database" in migrate(tmp_path).output
