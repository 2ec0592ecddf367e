"""`init`: a new database folder, and what it refuses to touch."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from daemon.cli import main
from daemon.cli.init import TEMPLATES


def init(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["init", *map(str, arguments)], prog_name="damnit")


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture
def proposal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A proposal's folder with two raw runs and a stray file, below the data root."""
    root = tmp_path / "root" / "MID" / "202601" / "p001234"
    for run in ("r0001", "r0002"):
        (root / "raw" / run).mkdir(parents=True)
        (root / "raw" / run / "RAW-S00000.h5").write_bytes(b"data")
    (root / "raw" / "README").write_text("no run")
    monkeypatch.setenv("EXTRA_DATA_DATA_ROOT", str(tmp_path / "root"))
    return root


def test_a_folder_with_the_template(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    result = init(folder, "--proposal", 1234)
    assert result.exit_code == 0, result.output
    assert f"Made {folder} for proposal 1234" in result.stdout
    assert f"`damnit listen {folder} --daemonize`" in result.stdout
    template = files("daemon").joinpath("templates", "context.py").read_bytes()
    assert (folder / "context.py").read_bytes() == template
    settings = dict(rows(folder / "runs.sqlite", "SELECT key, value FROM metameta"))
    assert settings["proposal"] == 1234


@pytest.mark.parametrize(
    ("name", "file", "source"),
    [
        ("minimal", "context.py", None),
        ("xfel", "xfel.py", None),
        ("hdf5", "hdf5.py", "hdf5"),
        ("imaging", "imaging.py", "hdf5"),
    ],
)
def test_a_template(tmp_path: Path, name: str, file: str, source: str | None) -> None:
    result = init(tmp_path / "d", "--proposal", 1, "--template", name)
    assert result.exit_code == 0, result.output
    template = files("daemon").joinpath("templates", file).read_bytes()
    assert (tmp_path / "d" / "context.py").read_bytes() == template
    settings = dict(rows(tmp_path / "d" / "runs.sqlite", "SELECT key, value FROM metameta"))
    assert settings.get("source") == source
    assert ("source is hdf5" in result.stdout) == (source is not None)


def test_a_template_goes_before_the_other_databases_file(tmp_path: Path) -> None:
    assert init(tmp_path / "old", "--proposal", 1).exit_code == 0
    result = init(tmp_path / "d", "--proposal", 2, "--like", tmp_path / "old", "--template", "hdf5")
    assert result.exit_code == 0, result.output
    assert "hdf5" in (tmp_path / "d" / "context.py").read_text()


def test_another_template_is_told_which_there_are(tmp_path: Path) -> None:
    result = init(tmp_path / "d", "--proposal", 1, "--template", "mini")
    assert result.exit_code == 2
    assert all(name in result.stderr for name in ("minimal", "xfel", "hdf5", "imaging"))
    every = {path.name for path in (Path(__file__).parents[2] / "templates").glob("*.py")}
    assert every == set(TEMPLATES.values())
    assert not (tmp_path / "d").exists()


def test_one_context_file_to_begin_with(tmp_path: Path) -> None:
    (tmp_path / "mine.py").touch()
    two = ("--context", tmp_path / "mine.py", "--template", "xfel")
    result = init(tmp_path / "d", "--proposal", 1, *two)
    assert result.exit_code == 2
    assert "--context or --template" in result.stderr


def test_a_given_context_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("# mine")
    result = init(tmp_path / "d", "--proposal", 1, "--context", tmp_path / "mine.py")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "d" / "context.py").read_text() == "# mine"


SeenEvents = Callable[[Path], list[tuple[Any, ...]]]


@pytest.fixture
def events() -> SeenEvents:
    return lambda folder: rows(
        folder / "daemon.sqlite", "SELECT run, data, state FROM events ORDER BY run"
    )


def test_a_proposals_number_and_its_runs(proposal: Path, events: SeenEvents) -> None:
    result = init("1234")
    assert result.exit_code == 0, result.output
    assert "2 run folders that were there already are left alone" in result.stdout
    folder = proposal / "usr" / "Shared" / "amore"
    assert events(folder) == [(1, "raw", "seen"), (2, "raw", "seen")]


def test_commands_to_copy_are_as_a_shell_takes_them(proposal: Path) -> None:
    shutil.rmtree(proposal / "raw" / "r0002")
    folder = proposal / "usr" / "our tests"
    result = init(folder)
    assert result.exit_code == 0, result.output
    assert "1 run folder that was there already is left alone" in result.stdout
    assert f"reprocess all --in '{folder}'` processes it." in result.stdout
    assert f"listen '{folder}' --daemonize`" in result.stdout


def test_existing_runs_are_processed_when_asked_for(proposal: Path, events: SeenEvents) -> None:
    folder = proposal / "usr" / "Shared" / "second"
    result = init(folder, "--process-existing")
    assert result.exit_code == 0, result.output
    assert "left alone" not in result.stdout
    assert events(folder) == []
    settings = dict(rows(folder / "runs.sqlite", "SELECT key, value FROM metameta"))
    assert settings["proposal"] == 1234


def test_like_another_database(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    assert init(old, "--proposal", 1).exit_code == 0
    (old / "context.py").write_text("# old")
    with closing(sqlite3.connect(old / "runs.sqlite")) as connection:
        connection.execute("INSERT INTO metameta VALUES ('noncluster_cpus', 8)")
        connection.execute("INSERT INTO variables VALUES ('good', 'boolean', 'Good', NULL, NULL)")
        connection.commit()
    result = init(new, "--proposal", 2, "--like", old)
    assert result.exit_code == 0, result.output
    assert (new / "context.py").read_text() == "# old"
    settings = dict(rows(new / "runs.sqlite", "SELECT key, value FROM metameta"))
    assert (settings["noncluster_cpus"], settings["proposal"]) == (8, 2)
    assert rows(new / "runs.sqlite", "SELECT good FROM runs") == []


def test_like_something_else(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "context.py").touch()
    result = init(tmp_path / "new", "--proposal", 2, "--like", tmp_path / "other")
    assert result.exit_code == 1
    assert "runs.sqlite cannot be used" in result.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [("runs.sqlite", "there is a database in"), ("context.py", "there is a context.py in")],
)
def test_nothing_is_overwritten(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).write_text("precious")
    result = init(tmp_path, "--proposal", 1)
    assert result.exit_code == 1
    assert words in result.stderr
    assert "`damnit proposal N" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "precious"


def test_a_number_that_no_proposal_has(tmp_path: Path) -> None:
    assert init(tmp_path / "new", "--proposal", 1_000_000).exit_code == 2
    assert not (tmp_path / "new").exists()


def test_a_folder_that_tells_no_proposal(tmp_path: Path) -> None:
    result = init(tmp_path / "d")
    assert result.exit_code == 2
    assert "--proposal N" in result.stderr
    assert not (tmp_path / "d").exists()
