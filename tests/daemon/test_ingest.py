import asyncio
import json
import sqlite3
import time

import pytest

from ctxlib.journal import JournalReader, JournalWriter
from ctxlib.summary import PLOTLY_PLACEHOLDER, Summary
from daemon.store.ingest import Ingest
from daemon.store.table import RunsTable

JOB = {"id": "20261121-014455-3f9a2c", "proposal": 1234, "run": 42}


def described(name, transient=False, **changes):
    return {"name": name, "title": name, "tags": [], "transient": transient, **changes}


def plan(*variables):
    return {
        "variables": list(variables),
        "order": [variable["name"] for variable in variables],
        "later": [],
        "problems": [],
    }


class Attempt:
    """An attempt folder whose journals a test writes."""

    def __init__(self, folder, number=1):
        self.folder = folder / "jobs" / JOB["id"] / str(number)
        self.folder.mkdir(parents=True)
        self.reader = JournalReader(self.folder)
        self.watcher = JournalWriter(self.folder / "journal.0.jsonl")
        self.runner = JournalWriter(self.folder / "journal.1.jsonl")

    def finished(self, variable, value):
        fields = {"data": None, "fragment": None, "objtype": None, "origin": {}}
        summary = None if value is None else Summary(value).to_json()
        self.runner.write("finished", variable=variable, summary=summary, **fields)

    def failed(self, variable, cls, message):
        error = {"type": cls, "message": message, "traceback": ""}
        self.runner.write("failed", variable=variable, error=error, duration=0.1)

    def close(self):
        self.watcher.close()
        self.runner.close()


@pytest.fixture
def attempt(tmp_path):
    attempt = Attempt(tmp_path)
    yield attempt
    attempt.close()


@pytest.fixture
async def table(tmp_path):
    table = RunsTable(tmp_path / "runs.sqlite", 1234)
    await table.ensure_run(1234, 42, None, 1.0)
    yield table
    await table.close()


def query(table, sql):
    connection = sqlite3.connect(table.path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def cells(table):
    rows = query(table, "SELECT name, value, attributes FROM run_variables ORDER BY name")
    return {name: value if note is None else json.loads(note) for name, value, note in rows}


async def test_a_job_from_plan_to_end(table, attempt):
    ingest = Ingest(table)
    runner = attempt.runner
    runner.write("begin", pid=1)
    runner.write(
        "plan", **plan(described("a", title="A", tags=["x"]), described("b"), described("c"))
    )
    runner.write("run", start_time=1.7e9)
    runner.write("started", variable="a", timeout=None)
    updates = await ingest.apply(JOB, attempt.reader.read())
    assert query(table, "SELECT name, title FROM variables ORDER BY 1")[0] == ("a", "A")
    assert query(table, "SELECT start_time FROM run_info") == [(1.7e9,)]
    head = {"job": JOB["id"], "proposal": 1234, "run": 42}
    assert updates == [
        {"kind": "plan", "total": 3, **head},
        {"kind": "started", "variable": "a", **head},
    ]
    runner.write("progress", variable="a", done=3, total=10, text="frames")
    updates = await ingest.apply(JOB, attempt.reader.read())
    report = {"done": 3, "total": 10, "text": "frames"}
    assert updates == [{"kind": "progress", "variable": "a", **report, **head}]
    attempt.finished("a", 5)
    attempt.failed("b", "ValueError", "no")
    attempt.failed("c", "Skip", "no beam")
    updates = await ingest.apply(JOB, attempt.reader.read())
    assert [(u["kind"], u["variable"], u["status"], u["error"]) for u in updates] == [
        ("result", "a", "finished", None),
        ("result", "b", "failed", "ValueError: no"),
        ("result", "c", "skipped", "no beam"),
    ]
    assert cells(table) == {
        "a": 5,
        "b": {"error": "no", "error_cls": "ValueError"},
        "c": {"error": "no beam", "error_cls": "Skip"},
    }


async def test_a_death_is_an_error_until_a_later_runner_knows_better(table, attempt):
    ingest = Ingest(table)
    attempt.runner.write("plan", **plan(described("a"), described("b")))
    attempt.watcher.write(
        "died", n=1, variable="a", reason="killed: used more than 25 GB", code="memory"
    )
    attempt.watcher.write("died", n=2, variable=None, reason="killed", code="signal", retried="b")
    [_, update] = await ingest.apply(JOB, attempt.reader.read())
    assert update["error"] == "MemoryLimit: killed: used more than 25 GB"
    assert cells(table) == {
        "a": {"error": "killed: used more than 25 GB", "error_cls": "MemoryLimit"}
    }
    attempt.finished("a", 1)
    await ingest.apply(JOB, attempt.reader.read())
    assert cells(table) == {"a": 1}


@pytest.mark.parametrize("restarted", [False, True])
async def test_transient_variables_have_no_cell(table, attempt, restarted):
    ingest = Ingest(table)
    attempt.runner.write("plan", **plan(described("t", transient=True), described("a")))
    await ingest.apply(JOB, attempt.reader.read())
    if restarted:
        ingest = Ingest(table)
    attempt.finished("t", None)
    attempt.failed("t", "ValueError", "no")
    attempt.finished("a", 1)
    updates = await ingest.apply(JOB, attempt.reader.read())
    assert [update["status"] for update in updates] == ["finished", "failed", "finished"]
    assert cells(table) == {"a": 1}
    assert query(table, "SELECT name FROM variables") == [("a",)]


async def test_applying_lines_again_changes_nothing(table, attempt):
    attempt.runner.write("plan", **plan(described("a")))
    attempt.runner.write("run", start_time=7.0)
    attempt.finished("a", 1)
    attempt.finished("a", 2)
    entries = attempt.reader.read()
    first = await Ingest(table).apply(JOB, entries)
    again = await Ingest(table).apply(JOB, entries)
    assert again == first
    assert query(table, "SELECT name, version, value FROM run_variables") == [("a", 1, 2)]
    assert query(table, "SELECT count(*) FROM run_info") == [(1,)]


async def test_what_kept_a_run_from_being_processed_is_on_its_row(table, attempt):
    ingest = Ingest(table)
    problem = {"message": "no module named 'x'", "line": 3, "variable": None, "mend": ""}
    attempt.watcher.write("ended", status="broken", reason="cannot be executed", problems=[problem])
    await ingest.apply(JOB, attempt.reader.read())
    [(text,)] = query(table, "SELECT processing_error FROM runs")
    assert text == "cannot be executed\nline 3: no module named 'x'"
    attempt.runner.write("plan", **plan(described("a")))
    attempt.watcher.write("ended", status="finished", reason="")
    await ingest.apply(JOB, attempt.reader.read())
    assert query(table, "SELECT processing_error FROM runs") == [(None,)]


async def test_placeholders_are_announced(table, attempt):
    attempt.runner.write("plan", **plan(described("a"), described("b")))
    attempt.finished("a", PLOTLY_PLACEHOLDER)
    attempt.finished("b", 1)
    updates = await Ingest(table).apply(JOB, attempt.reader.read())
    assert [update["placeholder"] for update in updates[1:]] == [True, False]


async def test_many_results_are_one_transaction(table, attempt):
    names = [f"v{number}" for number in range(50)]
    attempt.runner.write("plan", **plan(*map(described, names)))
    ingest = Ingest(table)
    await ingest.apply(JOB, attempt.reader.read())
    for name in names:
        attempt.finished(name, 1.5)
    start = time.perf_counter()
    await ingest.apply(JOB, attempt.reader.read())
    assert time.perf_counter() - start < 1
    assert len(set(query(table, "SELECT timestamp FROM run_variables"))) == 1


async def test_nothing_is_lost_when_the_table_is_locked(table, attempt):
    attempt.runner.write("plan", **plan(described("a")))
    attempt.finished("a", 1)
    other = sqlite3.connect(table.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    waiting = asyncio.create_task(Ingest(table).apply(JOB, attempt.reader.read()))
    done, _ = await asyncio.wait([waiting], timeout=0.2)
    assert not done
    other.execute("COMMIT")
    other.close()
    await asyncio.wait_for(waiting, 20)
    assert cells(table) == {"a": 1}
