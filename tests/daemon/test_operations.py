"""What can be asked of a service."""

import asyncio
import logging
from types import SimpleNamespace

import pytest

from daemon import updates
from daemon.control import ServiceError
from daemon.database import Database
from daemon.jobs.job import Work
from daemon.jobs.parts import Later
from daemon.jobs.queue import Queue
from daemon.jobs.states import State
from daemon.jobs.tables import MIGRATIONS
from daemon.operations import Operations
from daemon.updates import Hub

LOG = logging.getLogger("operations")


class Served:
    """As much of a service as following jobs takes."""

    working_scheduler = None

    def __init__(self, db):
        self.hub = Hub()
        self.queue = Queue(db, log=LOG)
        self.operations = Operations(self)

    async def work(self):
        """Nothing has to begin."""

    async def begin(self):
        await self.queue.create([Work(proposal=1234, run=1, data="raw", source="test", live=False)])
        return await self.queue.claim()

    async def end(self, job, *later):
        ended = await self.queue.finish(job, State.FINISHED, "", offsets={}, later=later)
        await self.queue.set_combined(ended)
        self.hub.publish((await self.queue.get(job.id)).update())


@pytest.fixture
async def served(tmp_path):
    database = Database(tmp_path / "daemon.sqlite", migrations=MIGRATIONS, wal=True)
    yield Served(database)
    await database.close()


async def test_one_who_was_too_slow_is_told_the_end_all_the_same(served, monkeypatch):
    monkeypatch.setattr(updates, "LONGEST_BACKLOG", 3)
    job = await served.begin()
    told = served.operations.follow([job.id])
    assert (await anext(told))["state"] == "dispatched"
    following = asyncio.ensure_future(anext(told))
    await asyncio.sleep(0)  # until it waits for updates
    for number in range(9):
        served.hub.publish({"kind": "started", "job": job.id, "run": 1, "variable": f"v{number}"})
    await served.end(job)
    states = [item.get("state") for item in [await following, *[item async for item in told]]]
    assert len(states) < 9
    assert states[-1] == "finished"


async def test_who_follows_is_told_why_a_job_is_held_back(served):
    job = await served.begin()
    await served.queue.take_back(job, "")
    told = served.operations.follow([job.id])
    assert (await anext(told))["reason"] == ""
    following = asyncio.ensure_future(anext(told))
    await asyncio.sleep(0)
    await served.queue.hold_back("no controller")
    served.hub.publish({"kind": "held"})
    assert (await following)["reason"] == "no controller"


async def test_jobs_that_follow_are_found_by_one_who_comes_late(served):
    job = await served.begin()
    await served.end(job, Later("cluster"))
    cluster = await served.queue.claim()
    told = served.operations.follow([job.id])
    assert [(await anext(told))["id"] for _ in range(2)] == [job.id, cluster.id]
    rest = asyncio.ensure_future(anext(told))
    await asyncio.sleep(0)
    await served.end(cluster)
    assert (await rest)["state"] == "finished"
    assert [item async for item in told] == []


async def test_a_job_that_there_is_not_is_named(served):
    with pytest.raises(ServiceError, match="there is no job none"):
        await anext(served.operations.follow(["none"]))


async def test_runs_without_data_are_skipped_and_named():
    async def submit(works, *, at_once):
        return [SimpleNamespace(id=f"j{work.run}", run=work.run, data=work.data) for work in works]

    async def runs_on_disk(proposal):
        return {1234: {1: "raw", 3: "all"}, 7: {9: "proc", 10: "raw"}}[proposal]

    async def runs():
        return [SimpleNamespace(proposal=1234, run=2), SimpleNamespace(proposal=7, run=9)]

    async def proposal_path(proposal):
        return "/p"

    service = SimpleNamespace(
        settings=SimpleNamespace(proposal=1234, noncluster_backend="local"),
        proposal_path=proposal_path,
        runs_on_disk=runs_on_disk,
        table=SimpleNamespace(runs=runs),
        submit=submit,
    )
    operations = Operations(service)
    answer = await operations.reprocess("all")
    # Of another proposal, what the table has of it.
    assert [job["run"] for job in answer["jobs"]] == [1, 3, 9]
    assert answer["skipped"] == [{"run": 2, "reason": "no data in /p"}]
    other = await operations.reprocess("all", proposal=7)
    assert [job["run"] for job in other["jobs"]] == [9, 10]
    mocked = await operations.reprocess("all", mock=True)
    assert [(job["run"], job["data"]) for job in mocked["jobs"]] == [
        (1, "all"),
        (2, "all"),
        (3, "all"),
        (9, "all"),
    ]
    assert mocked["skipped"] == []
