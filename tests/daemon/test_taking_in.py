"""What jobs say is in the table that there is, also when that was made anew meanwhile."""

import logging

import pytest

from ctxlib.journal import JournalReader, JournalWriter
from ctxlib.summary import Summary
from daemon.backends.named import Backends
from daemon.database import Database
from daemon.jobs.tables import MIGRATIONS
from daemon.processing import Processing
from daemon.settings import Settings
from daemon.store.origins import Origins
from daemon.store.table import RunsTable

REQUEST = {"id": "j1", "proposal": 1234, "run": 1, "data": "raw"}


class Folder:
    """A database folder with a job whose runner says what a test lets it say."""

    def __init__(self, path):
        self.path = path
        attempt = path / "jobs" / "j1" / "1"
        attempt.mkdir(parents=True)
        self.writer = JournalWriter(attempt / "journal.1.jsonl")
        self.reader = JournalReader(attempt)

    async def open(self):
        self.table = RunsTable(self.path / "runs.sqlite", 1234)
        await self.table.open()
        self.database = Database(self.path / "daemon.sqlite", migrations=MIGRATIONS, wal=True)
        self.processing = Processing(
            self.path,
            self.table,
            Origins(self.database, self.path / "jobs"),
            settings=lambda: Settings(proposal=1234),
            backends=Backends(self.path),
            log=logging.getLogger("taking-in"),
        )

    async def close(self):
        await self.processing.close()
        await self.table.close()
        await self.database.close()

    def say(self, variable, value):
        said = {"data": None, "fragment": None, "objtype": None, "origin": {}}
        summary = Summary(value).to_json()
        self.writer.write("finished", variable=variable, summary=summary, **said)

    async def take_in(self):
        await self.processing.apply(REQUEST, self.reader.read())

    async def values(self):
        read = "SELECT name, value FROM run_variables ORDER BY name"
        return await self.table._database.read(lambda c: dict(map(tuple, c.execute(read))))


@pytest.fixture
async def folder(tmp_path):
    folder = Folder(tmp_path)
    await folder.open()
    folder.writer.write("claimed")
    folder.say("a", 1)
    await folder.take_in()
    yield folder
    folder.writer.close()
    await folder.close()


async def test_a_table_that_was_deleted_gets_all_of_the_jobs_under_way(folder):
    folder.table.path.unlink()
    folder.say("b", 2)
    await folder.take_in()
    assert await folder.values() == {"a": 1, "b": 2}
    (run,) = await folder.table.runs()
    assert run.start_time is not None
    folder.table.path.unlink()
    folder.writer.write("ended", status="finished", reason="")
    await folder.take_in()
    assert await folder.values() == {"a": 1, "b": 2}


async def test_one_that_was_deleted_while_nobody_served_it_does_too(folder):
    await folder.close()
    folder.table.path.unlink()
    await folder.open()
    folder.say("b", 2)
    await folder.take_in()
    assert await folder.values() == {"a": 1, "b": 2}


async def test_lines_are_not_taken_in_again_without_need(folder):
    await folder.table.set_setting("proposal", 1234)
    await folder.table._database.write(
        lambda c: c.execute("UPDATE run_variables SET value = 5 WHERE name = 'a'")
    )
    folder.say("b", 2)
    await folder.take_in()
    await folder.close()
    await folder.open()
    folder.say("c", 3)
    await folder.take_in()
    assert await folder.values() == {"a": 5, "b": 2, "c": 3}
