"""What one database takes over from another."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from daemon.database import Database
from daemon.store.likeness import UnusableError, read_likeness, write_likeness
from daemon.store.table import RunsTable


async def _make(path: Path, proposal: int) -> None:
    table = RunsTable(path, proposal)
    await table.open()
    await table.close()


def _execute(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def _rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture
async def old(tmp_path: Path) -> Path:
    path = tmp_path / "old.sqlite"
    await _make(path, 1234)
    _execute(
        path,
        """
        INSERT INTO metameta VALUES ('noncluster_cpus', 8), ('proposal_path', '/p001234');
        INSERT INTO variables VALUES ('good', 'boolean', 'Good?', 'said by eye', NULL);
        INSERT INTO variables VALUES ('energy', NULL, 'Energy', NULL, NULL);
        INSERT INTO tags (name) VALUES ('people'), ('XGM');
        INSERT INTO variable_tags VALUES ('good', 1), ('energy', 2);
        INSERT INTO run_info VALUES (1234, 1, 0.0, 0.0);
        INSERT INTO run_variables (proposal, run, name, version, value)
            VALUES (1234, 1, 'good', 1, 1);
        """,
    )
    return path


async def test_settings_and_editable_variables_are_taken_over(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.sqlite"
    await _make(new, 5)
    identity = dict(_rows(new, "SELECT key, value FROM metameta"))
    likeness = read_likeness(old)
    database = Database(new, wal=False)
    await database.write(lambda connection: write_likeness(connection, likeness))
    await database.close()
    await _make(new, 5)
    assert dict(_rows(new, "SELECT key, value FROM metameta")) == {**identity, "noncluster_cpus": 8}
    assert _rows(new, "SELECT * FROM variables") == [
        ("good", "boolean", "Good?", "said by eye", None)
    ]
    assert _rows(new, "SELECT variable_name, name FROM variable_tags JOIN tags ON id = tag_id") == [
        ("good", "people")
    ]
    assert _rows(new, "SELECT run, good FROM runs") == []


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match=r"nowhere\.sqlite cannot be used"):
        read_likeness(tmp_path / "nowhere.sqlite")
    (tmp_path / "text.sqlite").write_text("these are not tables" * 100)
    with pytest.raises(UnusableError, match=r"text\.sqlite cannot be used"):
        read_likeness(tmp_path / "text.sqlite")
