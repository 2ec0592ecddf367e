import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from daemon.database import run_script
from daemon.store import schema
from daemon.store.views import MOST_COLUMNS, Views, shown_names


def make(path, *changes):
    connection = sqlite3.connect(path)
    run_script(connection, schema.TABLES)
    connection.execute("INSERT INTO metameta VALUES ('data_format_version', 4)")
    for change in changes:
        connection.execute(change)
    connection.commit()
    connection.close()
    return path


def test_our_own_is_fine(tmp_path):
    assert schema.check(make(tmp_path / "db")) == []


@pytest.mark.parametrize("content", [b"", None], ids=["empty", "blank"])
def test_without_tables_it_can_be_used(tmp_path, content):
    path = tmp_path / "db"
    if content is None:
        with closing(sqlite3.connect(path)) as blank:
            blank.execute("VACUUM")
    else:
        path.write_bytes(content)
    assert schema.check(path) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("DROP TABLE time_comments", "no table time_comments"),
        ("ALTER TABLE run_variables DROP COLUMN provenance", "no column provenance"),
        ("ALTER TABLE variables ADD COLUMN x NOT NULL DEFAULT 1", None),
        ("DROP INDEX variable_version", "run_variables allows the same proposal, run, name"),
        ("DROP INDEX proposal_run", "run_info allows the same proposal, run twice"),
        ("DELETE FROM metameta", "no data_format_version"),
        ("UPDATE metameta SET value = 'x'", "no data_format_version"),
        ("UPDATE metameta SET value = 3", "older than 4: `runtable migrate DIR`"),
        ("UPDATE metameta SET value = 5", None),
        ("ALTER TABLE run_info ADD COLUMN extra", None),
        ("CREATE TABLE theirs (x)", None),
        ("DROP VIEW runs", None),
    ],
)
def test_problems_are_named(tmp_path, change, problem):
    path = make(tmp_path / "db", change)
    before = path.read_bytes()
    found = schema.check(path)
    assert (found == []) if problem is None else (problem in "; ".join(found))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["db"]


def test_an_unknown_column_that_must_be_filled(tmp_path):
    path = make(
        tmp_path / "db",
        "DROP TABLE time_comments",
        "CREATE TABLE time_comments (timestamp, comment, author NOT NULL)",
    )
    assert "author that must be filled" in schema.check(path)[0]


def test_what_is_no_database(tmp_path):
    text = tmp_path / "text"
    text.write_text("not a database, but long enough to look at" * 100)
    assert "no SQLite database" in schema.check(text)[0]
    assert schema.check(tmp_path) == ["it is no file"]
    other = tmp_path / "other"
    with closing(sqlite3.connect(other)) as theirs:
        theirs.execute("CREATE TABLE theirs (x)")
    assert "no table run_info" in "; ".join(schema.check(other))


def test_a_transaction_of_a_killed_program_is_ended(tmp_path):
    path = make(tmp_path / "db")
    code = (
        "import os, signal, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('PRAGMA cache_size = 1')\n"
        "c.execute('BEGIN IMMEDIATE')\n"
        "for n in range(2000):\n"
        "    c.execute('INSERT INTO run_info VALUES (1, ?, 0, 0)', (n,))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, path]).returncode == -signal.SIGKILL
    assert (tmp_path / "db-journal").stat().st_size > 0
    assert schema.check(path) == []
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM run_info").fetchone() == (0,)
    connection.close()


@pytest.fixture
def connection(tmp_path):
    connection = sqlite3.connect(make(tmp_path / "db"), isolation_level=None)
    yield connection
    connection.close()


def views_sql(connection):
    return [
        row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE type = 'view'")
    ]


def test_views_have_a_column_per_variable(connection, tmp_path):
    names = ["n", "g.x y", "it's", 'q"e', "N", "run"]
    Views(tmp_path).show(connection, names)
    connection.execute("INSERT INTO run_info VALUES (1, 1, 10.0, 11.0), (2, 1, 10.0, 11.0)")
    connection.executemany(
        "INSERT INTO run_variables (proposal, run, name, version, value, max_diff) "
        "VALUES (1, 1, ?, 1, ?, 0.5)",
        [(name, number) for number, name in enumerate(names)],
    )
    rows = connection.execute("SELECT * FROM runs ORDER BY proposal").fetchall()
    assert rows == [(1, 1, 10.0, 11.0, 0, 1, 2, 3, 4, 5), (2, 1, 10.0, 11.0, *[None] * 6)]
    query = """SELECT "it's", "q""e" FROM max_diffs WHERE proposal = 1"""
    assert connection.execute(query).fetchall() == [(0.5, 0.5)]


def test_views_are_remade_only_when_names_appear(connection, tmp_path):
    views = Views(tmp_path)
    version = connection.execute("PRAGMA schema_version").fetchone()
    views.show(connection, [])
    assert connection.execute("PRAGMA schema_version").fetchone() == version
    views.show(connection, ["a"])
    version = connection.execute("PRAGMA schema_version").fetchone()
    views.show(connection, ["a"])
    Views(tmp_path).show(connection, ["a"])
    assert connection.execute("PRAGMA schema_version").fetchone() == version
    views.show(connection, ["b"])
    assert shown_names(connection) == ["a", "b"]


def test_views_that_another_program_remade_are_noticed(connection, tmp_path):
    views = Views(tmp_path)
    views.show(connection, ["a", "b"])
    Views(tmp_path).show(connection, ["theirs"])
    connection.execute("DROP VIEW max_diffs")
    views.show(connection, ["b"])
    assert shown_names(connection) == ["comment", "b"]


def test_a_rolled_back_view_is_made_again(connection, tmp_path):
    views = Views(tmp_path)
    connection.execute("BEGIN")
    views.show(connection, ["a"])
    views.show(connection, ["a"])
    connection.execute("ROLLBACK")
    views.show(connection, ["a"])
    assert shown_names(connection) == ["a"]


def test_too_many_variables_are_left_out_and_named_once(connection, tmp_path, caplog):
    views = Views(tmp_path)
    names = [f"v{n}" for n in range(MOST_COLUMNS + 2)]
    views.show(connection, names)
    assert "not in its views: v1900, v1901" in caplog.text
    assert connection.execute("SELECT * FROM runs").fetchall() == []
    version = connection.execute("PRAGMA schema_version").fetchone()
    caplog.clear()
    views.show(connection, names)
    assert caplog.text == ""
    assert connection.execute("PRAGMA schema_version").fetchone() == version
