import asyncio
import sqlite3

import pytest
from queue_helpers import make_event

from daemon.database import Database
from daemon.events.inbox import EVENT_TABLES, Inbox, mark_done


@pytest.fixture
async def db(tmp_path):
    database = Database(tmp_path / "daemon.sqlite", migrations=[EVENT_TABLES], wal=True)
    yield database
    await database.close()


@pytest.fixture
def inbox(db):
    return Inbox(db)


async def test_same_delivery_twice_is_one_event(inbox):
    assert await inbox.store(make_event(key="a"))
    assert not await inbox.store(make_event(key="a"))
    assert await inbox.store(make_event(key="b"))
    assert [stored.event.key for stored in await inbox.pending()] == ["a", "b"]


async def test_a_delivery_stays_known_when_a_job_has_taken_it_up(inbox, db):
    await inbox.store(make_event(key="a"))
    ids = [stored.id for stored in await inbox.pending()]
    await db.write(lambda connection: mark_done(connection, ids, "job-1"))
    assert not await inbox.store(make_event(key="a"))
    assert await inbox.pending() == []


async def test_a_key_used_for_another_run_does_not_hide_that_run(inbox):
    assert await inbox.store(make_event(42, key="1"))
    assert await inbox.store(make_event(43, key="1"))
    assert await inbox.store(make_event(42, "proc", key="1"))
    assert len(await inbox.pending()) == 3


async def test_a_folder_that_goes_back_to_an_earlier_state_has_changed(inbox):
    def of_folder(state):
        return make_event(key=state, source="filesystem")

    stored = [await inbox.store(of_folder(state)) for state in "aabba"]
    assert stored == [True, False, True, False, True]
    assert await inbox.last_keys(1234) == {("raw", 42): "a"}
    assert await inbox.last_keys(99) == {}


async def test_seen_runs_are_known_and_are_no_work(inbox):
    seen = [make_event(run, key=f"f{run}", source="filesystem") for run in (1, 2)]
    assert await inbox.mark_seen(seen) == 2
    assert await inbox.mark_seen(seen) == 0
    assert not await inbox.store(seen[0])
    assert await inbox.pending() == []
    assert await inbox.last_keys(1234) == {("raw", 1): "f1", ("raw", 2): "f2"}
    assert [row["state"] for row in await inbox.recent(10)] == ["seen", "seen"]


async def test_stored_means_on_disk(inbox, db):
    def synchronous(connection):
        return connection.execute("PRAGMA synchronous").fetchone()[0]

    assert await db.write(synchronous) == 2  # FULL: each commit is synced
    await inbox.store(make_event())
    other = sqlite3.connect(db.path)
    assert other.execute("SELECT count(*) FROM events").fetchone() == (1,)
    other.close()


async def test_waiting_ends_with_the_next_event(inbox):
    waiting = asyncio.create_task(inbox.wait(60))
    await inbox.store(make_event())
    await asyncio.wait_for(waiting, 5)
    await inbox.store(make_event(key="while nobody waited"))
    await asyncio.wait_for(inbox.wait(60), 5)
    await inbox.store(make_event(key="while nobody waited"))
    await inbox.wait(0.01)  # a delivery that is known wakes nobody


async def test_recent_events_are_the_last_ones(inbox):
    for run in range(5):
        await inbox.store(make_event(run))
    assert [row["run"] for row in await inbox.recent(2)] == [3, 4]
    assert set(await inbox.recent(1) and (await inbox.recent(1))[0]) >= {
        *("id", "time", "source", "proposal", "run", "data", "state")
    }


async def test_dead_letters(inbox):
    await inbox.dead_letter("notify", "{", "not JSON", 5.0)
    await inbox.dead_letter("notify", "\udcff\0", "not text", 6.0)
    letters = await inbox.dead_letters()
    assert [letter["error"] for letter in letters] == ["not JSON", "not text"]
    assert letters[0] | {"id": 0} == {
        "id": 0,
        "time": 5.0,
        "source": "notify",
        "payload": "{",
        "error": "not JSON",
    }
    assert await inbox.count_dead_letters() == 2
    assert await inbox.pending() == []


async def test_a_key_that_sqlite_cannot_write_is_still_a_key(inbox):
    assert await inbox.store(make_event(key="\ud800"))
    assert not await inbox.store(make_event(key="\ud800"))
