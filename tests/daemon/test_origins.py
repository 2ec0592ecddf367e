"""What is kept of where results come from, and which of them are stale by it."""

import pytest

from ctxlib.errors import Skip
from ctxlib.journal import JournalReader, JournalWriter
from daemon.database import Database
from daemon.jobs.tables import MIGRATIONS
from daemon.plan import NO_RECORD, Place, Planner, grouped
from daemon.store.origins import Origins

JOB = {"id": "j1", "proposal": 1234, "run": 1}


def described(name, needs=(), **options):
    return {
        "name": name,
        "title": name.upper(),
        "data": "raw",
        "backend": "",
        "transient": False,
        "parameters": [],
        "dependencies": list(needs),
        "fingerprint": {"source": name},
        **options,
    }


class Journal:
    """A job's journal that a test writes, which goes into the records."""

    def __init__(self, folder, origins):
        self.origins = origins
        self.folder = folder / "j1" / "1"
        self.folder.mkdir(parents=True)
        self.reader = JournalReader(self.folder)
        self.writer = JournalWriter(self.folder / "journal.1.jsonl")

    def finished(self, name, **fingerprint):
        self.writer.write("finished", variable=name, origin={"fingerprint": fingerprint})

    def failed(self, name, error, **fingerprint):
        said = {"type": type(error).__name__, "message": "", "traceback": ""}
        origin = {"fingerprint": fingerprint}
        self.writer.write("failed", variable=name, error=said, origin=origin)

    async def taken_in(self, **job):
        await self.origins.keep({**JOB, **job}, self.reader.read())

    async def stale(self, *variables, **params):
        """What is stale of run 1, with reasons."""
        planner = Planner(variables)
        records = await self.origins.of_runs(1234, [1])
        (plan,) = planner.of_stale(planner.of_all({1: "all"}), records, params)
        return plan.why


@pytest.fixture
async def journal(tmp_path):
    database = Database(tmp_path / "daemon.sqlite", migrations=MIGRATIONS, wal=True)
    journal = Journal(tmp_path / "jobs", Origins(database, tmp_path / "jobs"))
    yield journal
    journal.writer.close()
    await database.close()


async def test_what_has_no_record_is_stale(journal):
    journal.writer.write("finished", variable="old", origin={"host": "node1"})
    await journal.taken_in()
    stale = await journal.stale(described("new"), described("old"))
    assert stale == {"new": [NO_RECORD], "old": [NO_RECORD]}


async def test_what_failed_or_was_skipped_is_stale_only_when_something_changed(journal):
    journal.failed("a", ValueError(), source="a")
    journal.failed("b", Skip(), source="b")
    journal.failed("c", ValueError(), source="before")
    await journal.taken_in()
    stale = await journal.stale(described("a"), described("b"), described("c"))
    assert stale == {"c": ["its source changed"]}


async def test_what_was_skipped_is_stale_when_what_it_needs_came_later(journal):
    needs = described("b", needs=["a"])
    whole = {"source": "b", "variable:a": "1"}
    needs["fingerprint"] = dict(whole)
    journal.failed("a", ValueError(), source="a")
    journal.failed("b", Skip(), source="b", **{"variable:a": "1"})
    await journal.taken_in()
    assert "b" in await journal.stale(
        described("a"), needs
    )  # what it stands for has no such digest


async def test_a_variable_that_died_has_the_fingerprint_of_the_plan(journal):
    variable = described("a", parameters=["low"])
    journal.writer.write("plan", variables=[variable], order=["a"], params={"low": 3})
    journal.writer.write("died", n=1, variable="a", reason="killed", code="signal")
    journal.writer.write("died", n=2, variable=None, reason="killed", code="signal")
    await journal.taken_in()
    assert await journal.stale(variable, low=3) == {}
    assert await journal.stale(variable, low=4) == {"a": ["parameter low was 3, is 4"]}


async def test_the_newest_result_counts_and_lines_may_come_twice(journal):
    journal.finished("a", source="a")
    await journal.taken_in()
    journal.finished("a", source="other")
    entries = journal.reader.read()
    await journal.origins.keep(JOB, entries)
    await journal.origins.keep(JOB, JournalReader(journal.folder).read())
    assert await journal.stale(described("a")) == {"a": ["its source changed"]}


async def test_submitted_results_are_never_stale(journal):
    journal.finished("a")
    await journal.taken_in(provenance="elsewhere")
    assert await journal.stale(described("a")) == {}


async def test_transient_variables_are_left_out(journal):
    assert await journal.stale(described("t", transient=True)) == {}


def test_plans_are_told_once_for_runs_that_are_alike():
    variables = [
        described("a"),
        described("p", data="proc"),
        described("c", ["a"], backend="cluster"),
    ]
    planner = Planner(variables)
    plans = planner.of_all({1: "raw", 2: "raw", 3: "all"})
    raw, every = grouped(plans, planner.selection, Place("local"))
    assert raw == {
        "runs": [1, 2],
        "data": "raw",
        "variables": [{"name": "a", "why": []}, {"name": "c", "why": []}],
        "jobs": [
            {"backend": "local", "variables": ["a"]},
            {"backend": "cluster", "variables": ["c"]},
        ],
    }
    [whole, _] = grouped(plans, planner.selection, Place("gpu", whole=True))
    assert whole["jobs"] == [{"backend": "gpu", "variables": ["a", "c"]}]
    [here, _] = grouped(plans, planner.selection, Place("cluster"))
    assert here["jobs"] == [{"backend": "cluster", "variables": ["a", "c"]}]
    assert (every["runs"], len(every["variables"])) == ([3], 3)
    with pytest.raises(KeyError, match="did you mean 'a'"):
        planner.of_all({1: "raw"}, ["aa"])
