import asyncio
import io
import json
import sqlite3
from itertools import pairwise

import numpy as np
import pytest

from ctxlib.summary import Summary
from daemon.database import Database, SchemaError
from daemon.store import schema
from daemon.store.rows import CellValue
from daemon.store.table import RunsTable

NOW = 4_000_000_000.0  # later than any file here


def summary(value, **changes):
    fields = {"type": None, "method": None, "max_diff": None, "attributes": {}, **changes}
    return Summary(value=value, **fields)


def describe(name, **changes):
    return {"name": name, "title": name.title(), "description": None, "tags": [], **changes}


@pytest.fixture
async def table(tmp_path):
    table = RunsTable(tmp_path / "runs.sqlite", 1234, clock=lambda: NOW)
    await table.open()
    yield table
    await table.close()


def query(table, sql, *arguments):
    connection = sqlite3.connect(table.path)
    try:
        return connection.execute(sql, arguments).fetchall()
    finally:
        connection.close()


def sql_of(path):
    connection = sqlite3.connect(path)
    sql = "SELECT type, name, sql FROM sqlite_master ORDER BY name"
    rows = connection.execute(sql).fetchall()
    connection.close()
    return rows


async def test_a_new_one_has_the_published_tables(table):
    rows = query(table, "SELECT key, value, typeof(value) FROM metameta ORDER BY key")
    assert [row for row in rows if row[0] != "db_id"] == [
        ("data_format_version", 4, "integer"),
        ("proposal", 1234, "integer"),
    ]
    assert schema.check(table.path) == []
    assert query(table, "PRAGMA journal_mode") == [("delete",)]
    assert query(table, "PRAGMA user_version") == [(0,)]


async def test_a_row_per_run_from_the_first_event(table):
    assert await table.ensure_run(1234, np.int64(1), None, 100.0) is True
    assert await table.ensure_run(1234, 1, 50.0, 200.0) is False
    assert await table.ensure_run(1234, 1, 60.0, 200.0) is False
    assert query(table, "SELECT *, typeof(run) FROM runs") == [(1234, 1, 50.0, 100.0, "integer")]
    await table.set_start_time(1234, 1, 70.0)
    [row] = await table.runs()
    assert (row.proposal, row.run, row.start_time, row.added_at) == (1234, 1, 70.0, 100.0)


async def test_registered_before_values_and_tags_replaced(table):
    await table.register(
        [
            describe("a", tags=["x", "y"]),
            describe("b", tags=("y",), description="of b"),
            describe("hidden", transient=True),
        ]
    )
    tags = (
        "SELECT variable_name, tags.name FROM variable_tags JOIN tags ON id = tag_id ORDER BY 1, 2"
    )
    assert query(table, tags) == [("a", "x"), ("a", "y"), ("b", "y")]
    await table.register([describe("a", title="New", tags=["z"]), describe("b")])
    assert query(table, tags) == [("a", "z")]
    assert query(table, "SELECT name FROM tags") == [("z",)]
    assert query(table, "SELECT name, type, title, description FROM variables") == [
        ("a", None, "New", None),
        ("b", None, "B", None),
    ]
    assert [column[1] for column in query(table, "PRAGMA table_info(runs)")][4:] == ["a", "b"]


async def test_registering_the_same_again_writes_nothing(table):
    variables = [describe("a", tags=["x"]), describe("b")]
    await table.register(variables)
    before = table.path.read_bytes()
    await table.register(variables)
    assert table.path.read_bytes() == before


async def test_one_row_per_name_with_version_1(table):
    await table.ensure_run(1234, 1, 1.0, 1.0)
    connection = sqlite3.connect(table.path)
    connection.execute(
        "INSERT INTO run_variables (proposal, run, name, version, value) "
        "VALUES (1234, 1, 'a', 1, 1), (1234, 1, 'a', 2, 2), (1234, 2, 'a', 2, 2)"
    )
    connection.commit()
    connection.close()
    for value in (5, 6.5):
        await table.set_results(1234, 1, [CellValue("a", summary(value))])
    rows = "SELECT run, version, value FROM run_variables ORDER BY run"
    assert query(table, rows) == [(1, 1, 6.5), (2, 2, 2)]


async def test_what_a_cell_shows(table):
    array = io.BytesIO()
    np.save(array, np.zeros((2, 3)))
    cells = [
        CellValue("number", summary(5, method="mean", max_diff=2.0, attributes={"units": "mm"})),
        CellValue("nan", summary(float("nan"), attributes={"background": [1, 2, 3]})),
        CellValue("truth", summary(True)),
        CellValue("text", summary("hello")),
        CellValue("line", summary(array.getvalue(), type="trendline")),
        CellValue("nothing", summary(None)),
        CellValue("cleared"),
        CellValue("failed", None, ("ValueError", "no \udc80 \0")),
    ]
    await table.set_results(1234, np.int32(7), cells)
    columns = "value, max_diff, summary_type, summary_method, attributes, provenance"
    stored = {
        row[0]: row[1:]
        for row in query(table, f"SELECT name, {columns} FROM run_variables WHERE run = 7")
    }
    assert stored["number"] == (5, 2.0, None, "mean", '{"units": "mm"}', "context.py")
    assert stored["nan"] == (None, None, None, "", '{"background": [1, 2, 3]}', "context.py")
    assert stored["truth"][0] == 1
    assert stored["text"][0] == "hello"
    assert stored["line"][:3] == (array.getvalue(), None, "trendline")
    assert stored["nothing"][:4] == (None, None, None, "")
    assert stored["cleared"] == (None, None, None, None, None, "context.py")
    assert stored["failed"][:4] == (None, None, None, None)
    assert json.loads(stored["failed"][4]) == {"error": "no \udc80 \0", "error_cls": "ValueError"}
    assert query(table, "SELECT title FROM variables WHERE name = 'number'") == [("number",)]
    assert query(table, 'SELECT proposal, run, "number" FROM runs') == [(1234, 7, 5)]


async def test_an_error_replaces_a_value_and_the_other_way_round(table):
    value = CellValue("a", summary(1, method="sum", max_diff=3.0, attributes={"bold": True}))
    rows = "SELECT value, max_diff, summary_method, attributes FROM run_variables"
    await table.set_results(1234, 1, [value])
    await table.set_results(1234, 1, [CellValue("a", None, ("Skip", "no beam"))])
    error = '{"error": "no beam", "error_cls": "Skip"}'
    assert query(table, rows) == [(None, None, None, error)]
    await table.set_results(1234, 1, [value])
    assert query(table, rows) == [(1, 3.0, "sum", '{"bold": true}')]


async def test_timestamps_never_go_back(tmp_path):
    path = tmp_path / "runs.sqlite"
    clock = iter((NOW, NOW - 100, NOW, NOW + 1))
    table = RunsTable(path, 1234, clock=lambda: next(clock))
    times = []
    for number in range(4):
        await table.set_results(1234, 1, [CellValue("a", summary(number))])
        times += query(table, "SELECT timestamp FROM run_variables")
    await table.close()
    assert times[0] == (NOW,)
    assert all(first < second for first, second in pairwise(times))
    assert times[-1] == (NOW + 1,)
    again = RunsTable(path, clock=lambda: 5.0)
    await again.set_results(1234, 1, [CellValue("a", summary(9))])
    [(late,)] = query(again, "SELECT timestamp FROM run_variables")
    await again.close()
    assert late >= path.stat().st_mtime - 1


async def test_a_timestamp_is_that_of_the_transaction(tmp_path):
    times = [NOW]
    table = RunsTable(tmp_path / "runs.sqlite", 1234, clock=lambda: times[-1])
    await table.open()
    other = sqlite3.connect(table.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    waiting = asyncio.create_task(table.set_results(1234, 1, [CellValue("a", summary(1))]))
    await asyncio.wait([waiting], timeout=0.1)
    times.append(NOW + 60)
    other.execute("COMMIT")
    other.close()
    await asyncio.wait_for(waiting, 20)
    assert query(table, "SELECT timestamp FROM run_variables") == [(NOW + 60,)]
    await table.close()


async def test_names_that_the_table_needs_are_no_variables(table, caplog):
    await table.register([describe("start_time"), describe("comment"), describe("fine")])
    await table.set_results(
        1234, 1, [CellValue("start_time", summary(1)), CellValue("fine", summary(2))]
    )
    assert query(table, "SELECT name FROM run_variables") == [("fine",)]
    assert query(table, "SELECT name FROM variables") == [("fine",)]
    assert caplog.text.count("no variable can be named start_time") == 1


async def test_a_computed_variable_does_not_overwrite_what_people_wrote(table, caplog):
    connection = sqlite3.connect(table.path)
    connection.execute("INSERT INTO variables VALUES ('mine', 'integer', 'Mine', NULL, NULL)")
    connection.commit()
    connection.close()
    await table.set_value(1234, 1, "mine", 5)
    await table.register([describe("mine", title="Theirs")])
    await table.set_results(1234, 1, [CellValue("mine", summary(6))])
    assert query(table, "SELECT value FROM run_variables") == [(5,)]
    assert query(table, "SELECT type, title FROM variables") == [("integer", "Mine")]
    assert "a user-editable variable has it" in caplog.text
    with pytest.raises(TypeError, match="cannot be 'x': it must be of type integer"):
        await table.set_value(1234, 1, "mine", "x")
    with pytest.raises(TypeError, match="cannot be True"):
        await table.set_value(1234, 2, "mine", True)
    with pytest.raises(KeyError, match="no variable 'other' that can be edited"):
        await table.set_value(1234, 1, "other", "x")


async def test_processing_error_is_a_variable_once_there_is_one(table):
    await table.ensure_run(1234, 1, 1.0, 1.0)
    await table.set_value(1234, 1, "processing_error", None)
    assert query(table, "SELECT count(*) FROM variables") == [(0,)]
    await table.set_value(1234, 1, "processing_error", "line 3 \udcff\0")
    assert query(table, "SELECT name, type, title FROM variables") == [
        ("processing_error", "string", "Processing error")
    ]
    assert query(table, "SELECT processing_error FROM runs") == [("line 3 \\udcff\\x00",)]
    await table.set_value(1234, 1, "processing_error", None)
    assert query(table, "SELECT value, version FROM run_variables") == [(None, 1)]


async def test_comment(table):
    await table.set_value(1234, 3, "comment", "good run")
    assert query(table, "SELECT run, comment FROM runs") == [(3, "good run")]
    assert query(table, "SELECT count(*) FROM variables") == [(0,)]
    assert query(table, "SELECT timestamp FROM run_variables") == [(NOW,)]


async def test_settings(table):
    await table.set_setting("noncluster_cpus", 8)
    await table.set_setting("noncluster_cpus", 9)
    assert query(table, "SELECT value, typeof(value) FROM metameta WHERE key LIKE 'non%'") == [
        (9, "integer")
    ]
    settings = await table.settings()
    assert (settings.noncluster_cpus, settings.proposal) == (9, 1234)
    assert await table.delete_setting("noncluster_cpus") is True
    assert await table.delete_setting("noncluster_cpus") is False
    assert "noncluster_cpus" not in await table.setting_rows()


async def test_a_deleted_database_is_made_anew_with_its_proposal(tmp_path):
    table = RunsTable(tmp_path / "runs.sqlite")
    await table.open()
    await table.set_setting("proposal", 77)
    await table.register([describe("a")])
    await table.set_results(77, 1, [CellValue("a", summary(1))])
    table.path.unlink()
    await table.set_results(77, 2, [CellValue("a", summary(2))])
    assert query(table, "SELECT run, a FROM runs") == [(2, 2)]
    assert query(table, "SELECT title FROM variables") == [("A",)]
    table.path.rename(tmp_path / "away")
    assert (await table.settings()).proposal == 77
    await table.close()


async def test_another_program_may_hold_the_lock(table, tmp_path):
    other = sqlite3.connect(table.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    results = [CellValue("a", summary(1))]
    waiting = [asyncio.create_task(table.set_results(1234, run, results)) for run in range(1, 6)]
    queue = Database(tmp_path / "daemon.sqlite", migrations=["CREATE TABLE t (x)"], wal=True)
    await asyncio.wait_for(queue.write(lambda c: c.execute("INSERT INTO t VALUES (1)")), 5)
    await queue.close()
    assert not any(task.done() for task in waiting)
    other.execute("COMMIT")
    other.close()
    await asyncio.wait_for(asyncio.gather(*waiting), 20)
    assert query(table, "SELECT run FROM runs") == [(run,) for run in range(1, 6)]


@pytest.mark.parametrize("kind", ["text", "foreign", "wal", "damaged", "older"])
async def test_what_cannot_be_used_is_refused_and_left_as_it_is(tmp_path, kind):
    path = tmp_path / "runs.sqlite"
    if kind == "text":
        path.write_bytes(b"no database " * 1000)
    elif kind in ("foreign", "wal"):
        connection = sqlite3.connect(path)
        connection.execute(f"PRAGMA journal_mode = {'WAL' if kind == 'wal' else 'DELETE'}")
        connection.execute("CREATE TABLE theirs (x)")
        connection.close()
    else:
        made = RunsTable(path, 1)
        await made.open()
        await made.close()
        connection = sqlite3.connect(path)
        if kind == "damaged":
            connection.execute("DROP TABLE variables")
        else:
            connection.execute("UPDATE metameta SET value = 0 WHERE key = 'data_format_version'")
        connection.commit()
        connection.close()
    before = path.read_bytes()
    table = RunsTable(path, 1234)
    with pytest.raises(SchemaError, match="left as it is"):
        await table.open()
    with pytest.raises(SchemaError, match="left as it is"):
        await table.ensure_run(1234, 1, None, 1.0)
    await table.close()
    assert path.read_bytes() == before
    if kind != "wal":  # SQLite needs two files of its own to read such a one
        assert [entry.name for entry in tmp_path.iterdir()] == ["runs.sqlite"]


async def test_a_newer_format_with_our_tables_is_used_with_a_warning(tmp_path, caplog):
    path = tmp_path / "runs.sqlite"
    made = RunsTable(path, 1)
    await made.set_setting("data_format_version", 5)
    await made.close()
    table = RunsTable(path)
    await table.set_results(1, 1, [CellValue("a", summary(1))])
    assert "a format newer than 4" in caplog.text
    settings = await table.settings()
    assert settings.data_format_version == 5
    (warning,) = settings.warnings
    assert "format version 5, newer than 4" in warning
    await table.close()


async def test_a_database_left_in_wal_mode_gets_its_rollback_journal_back(tmp_path):
    path = tmp_path / "runs.sqlite"
    made = RunsTable(path, 1)
    await made.open()
    await made.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    table = RunsTable(path)
    await table.ensure_run(1, 1, None, 1.0)
    await table.close()
    assert query(table, "PRAGMA journal_mode") == [("delete",)]


async def test_a_placeholder_is_replaced_only_while_it_is_there(table):
    await table.set_results(1234, 1, [CellValue("a", summary(b"old"))])
    before = query(table, "SELECT timestamp FROM run_variables")
    assert await table.replace_value(1234, 1, "a", b"other", b"new") is False
    assert query(table, "SELECT timestamp FROM run_variables") == before
    assert await table.replace_value(1234, 1, "a", b"old", b"new") is True
    [(value, timestamp)] = query(table, "SELECT value, timestamp FROM run_variables")
    assert (value, timestamp > before[0][0]) == (b"new", True)
