import asyncio
import json
import logging
from types import SimpleNamespace

import pytest

from daemon.control import ServiceError
from daemon.database import Database
from daemon.event_operations import EventOperations
from daemon.events.inbox import Inbox
from daemon.jobs.job import SUBMISSION
from daemon.jobs.queue import Queue
from daemon.jobs.tables import MIGRATIONS

GARBAGE = [
    "",
    "{",
    "[" * 100_000,
    "\ud800",
    '{"run": "x", "data": "raw"}',
    '{"run": 1e999}',
    "null",
]
OTHERS = json.dumps({"proposal": 9, "run": 7, "data": "raw"})


@pytest.fixture
async def served(tmp_path):
    """As much of a service as events take."""
    database = Database(tmp_path / "daemon.sqlite", migrations=MIGRATIONS, wal=True)
    yield SimpleNamespace(
        settings=SimpleNamespace(proposal=1234),
        inbox=Inbox(database),
        queue=Queue(database, log=logging.getLogger("events"), now=lambda: 1000.0),
        now=lambda: 1000.0,
    )
    await database.close()


@pytest.fixture
def events(served):
    return EventOperations(served)


async def test_garbage_is_kept_with_the_reason_and_stays_when_it_is_retried(events, served):
    for payload in GARBAGE:
        with pytest.raises(ServiceError, match="kept among the dead letters"):
            await events.message(payload)
    letters = await served.inbox.dead_letters()
    found = await events.retry()
    assert found["stored"] == []
    kept = [{"id": letter["id"], "error": letter["error"]} for letter in letters]
    assert found["kept"] == kept
    assert len(kept) == len(GARBAGE)
    assert await served.inbox.dead_letters() == letters
    assert await served.inbox.pending() == []


async def test_what_can_be_understood_later_is_put_back_once(events, served):
    with pytest.raises(ServiceError, match="for proposal 9, this database for 1234"):
        await events.message(OTHERS)
    with pytest.raises(ServiceError):
        await events.message("{")
    (first, second) = await served.inbox.dead_letters()
    served.settings.proposal = 9
    with pytest.raises(ServiceError, match="there is no dead letter 77"):
        await events.retry([first["id"], 77])
    both = await asyncio.gather(events.retry([first["id"]]), events.retry([first["id"]]))
    told = [letter["new"] for found in both for letter in found["stored"]]
    assert sorted(told) in ([True], [False, True])
    (stored,) = await served.inbox.pending()
    assert (stored.event.run, stored.event.source, stored.event.time) == (7, "zeromq", 1000.0)
    assert [letter["id"] for letter in await served.inbox.dead_letters()] == [second["id"]]


async def test_a_known_message_and_a_submission_are_no_new_events(events, served):
    message = json.dumps({"proposal": 9, "run": 7, "data": "raw", "key": "k"})
    with pytest.raises(ServiceError):
        await events.message(message)
    await served.inbox.dead_letter(SUBMISSION, "job: {}", "no claim", 1000.0)
    served.settings.proposal = 9
    assert (await events.message(message))["stored"]
    for _ in range(2):
        found = await events.retry()
        (kept,) = found["kept"]
        assert kept["error"] == (
            "no claim; it was submitted with its results, and has to be submitted again"
        )
    assert len(await served.inbox.pending()) == 1


async def test_a_flood_makes_one_job_for_each_run_and_data(events, served):
    """Proc before raw, doubled, and in no order; a job absorbs what comes while it waits."""
    deliveries = [
        events.event(run, data, key=f"{run}{data}{key}")
        for key in (2, 1, 2)
        for run in range(60, 0, -1)
        for data in ("proc", "raw")
    ]
    answers = await asyncio.gather(*deliveries)
    assert sum(answer["stored"] for answer in answers) == 240
    for stored in await served.inbox.pending():
        await served.queue.take(stored)
    jobs = await served.queue.recent(1000)
    assert sorted((job.run, job.data) for job in jobs) == [
        (run, data) for run in range(1, 61) for data in ("proc", "raw")
    ]
    claimed = [await served.queue.claim() for _ in range(121)]
    assert [job.run for job in claimed[:4]] == [1, 1, 2, 2]  # those that came last are first
    assert claimed[-1] is None
