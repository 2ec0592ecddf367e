"""What is removed by age and by cleaning up, and what never is."""

import asyncio
import os
import sqlite3

import pytest
from queue_helpers import eventually, make_event
from scheduler_bench import LOG, whole

from daemon.backends.configurations import LocalConfig
from daemon.backends.named import Backends
from daemon.jobs import housekeeping
from daemon.jobs.changes import UnknownJob
from daemon.jobs.housekeeping import DAY, Housekeeping, Waste
from daemon.jobs.records import AmbiguousJob, Records
from daemon.jobs.states import State


@pytest.fixture
def keeper(bench):
    """Keeps the bench's folder as of its clock, for 14 days."""
    for name in ("old", "new"):
        (bench.folder / "lib" / name).mkdir(parents=True)
    return Housekeeping(
        bench.folder,
        bench.db,
        library=lambda: bench.folder / "lib/new",
        keep_days=lambda: 14,
        now=lambda: bench.time,
        log=LOG,
    )


def folders(bench):
    return sorted(path.name for path in (bench.folder / "jobs").iterdir())


async def finished(bench, run=1):
    job = await bench.settled(await bench.submit(run))
    await cleaned(bench, job.id)
    return job.id


async def cleaned(bench, job_id):
    """Wait until the fragments of a job are gone, and the queue knows it."""
    query = "SELECT cleaned FROM jobs WHERE id = ?"
    for _ in range(4000):
        if await bench.db.read(lambda c: c.execute(query, (job_id,)).fetchone()[0]):
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"{job_id} keeps its fragments")


def named(found, kind):
    return [waste.name for waste in found if waste.kind == kind and not waste.kept]


async def test_folders_go_by_age_once_their_results_are_in(bench, keeper):
    bench.manager.play = whole
    await bench.start()
    first = await finished(bench)
    bench.time += 10 * DAY
    second = await finished(bench)

    def unfit(job):
        raise RuntimeError("the disk says no")

    bench.on_combine = unfit
    kept = await bench.settled(await bench.submit(3))
    assert kept.combined == 2
    assert await keeper.by_age() == [Waste("library", "old", "another one is used now")]
    assert not (bench.folder / "lib/old").exists()

    bench.time += 5 * DAY
    expected = [Waste("folder", first, "its results are in the run file")]
    assert await keeper.by_age(dry_run=True) == expected
    assert folders(bench) == [first, second, kept.id]
    assert await keeper.by_age() == expected
    assert folders(bench) == [second, kept.id]
    assert await keeper.by_age() == []
    bench.time += 100 * DAY
    await keeper.by_age()
    assert folders(bench) == [kept.id]  # its results are nowhere else


async def test_a_job_is_deleted_when_nothing_needs_it(bench, keeper):
    bench.manager.play = whole
    await bench.start()
    gone, stays = await finished(bench), await finished(bench, 2)

    def unfit(job):
        raise RuntimeError("the disk says no")

    bench.on_combine = unfit
    kept = await bench.settled(await bench.submit(3))
    assert not await keeper.forget(kept.id)  # its results are nowhere else
    assert await keeper.forget(gone)
    assert not await keeper.forget(gone)
    assert folders(bench) == [stays, kept.id]
    for table, column in (("jobs", "id"), ("attempts", "job"), ("history", "job")):
        query = f"SELECT DISTINCT {column} AS id FROM {table} ORDER BY 1"
        rows = await bench.db.read(lambda c, query=query: c.execute(query).fetchall())
        assert [row["id"] for row in rows] == [stays, kept.id]


async def test_a_configuration_for_once_goes_with_the_last_of_its_jobs(bench, keeper):
    bench.time += 100 * DAY
    backends = Backends(bench.folder)
    used, unused, new = (backends.once(title, LocalConfig()) for title in ("used", "unused", "new"))
    kept = {name: bench.folder / f"backends/.once/{name}.json" for name in (used, unused, new)}
    for name in (used, unused):
        os.utime(kept[name], (0.0, 0.0))
    os.utime(kept[new], (bench.time, bench.time))
    await bench.submit(1, backend=used)
    gone = Waste("configuration", unused, "it was for once, and no job uses it")
    assert gone in await keeper.by_age(dry_run=True)
    assert kept[unused].exists()
    assert gone in await keeper.by_age()
    assert [path.exists() for path in kept.values()] == [True, False, True]
    os.utime(kept[new], (0.0, 0.0))
    backends.once("new", LocalConfig())  # somebody is about to use it again
    assert kept[new].stat().st_mtime > 0


async def test_a_folder_that_a_later_job_needs_stays_and_so_does_a_library_in_use(bench, keeper):
    def play(attempt):
        if not attempt.job.endswith("cluster"):
            attempt.plan("a", cluster=[])
            attempt.result("a")
            attempt.end()

    bench.manager.play = play
    await bench.start()
    job = await bench.submit()
    await eventually(lambda: bench.manager.jobs() == [job, f"{job}-cluster"])
    await bench.settled(job)
    bench.time += 100 * DAY
    assert await keeper.by_age() == []
    assert folders(bench) == [job, f"{job}-cluster"]
    whole(bench.manager.submitted[1])
    await bench.settled(f"{job}-cluster")
    await cleaned(bench, job)
    assert named(await keeper.by_age(), "folder") == [job]


async def test_old_rows_go_but_the_newest_stay(bench, keeper, monkeypatch):
    monkeypatch.setattr(housekeeping, "_OLD_JOBS", housekeeping._OLD_JOBS.replace("1000", "2"))
    bench.manager.play = whole
    await bench.start()
    ids = [await finished(bench, run) for run in range(4)]
    for key in ("first", "last"):
        await bench.inbox.store(make_event(9, key=key))
        await eventually(lambda: 9 in bench.arrived)
    for number in range(3):
        await bench.inbox.dead_letter("zeromq", f"letter {number}", "no JSON", bench.time)
    for job in await bench.queue.recent(10):
        await bench.settled(job.id)
        await cleaned(bench, job.id)
    bench.time += 15 * DAY
    assert named(await keeper.by_age(dry_run=True), "event") == ["1"]
    number = len(await bench.queue.recent(10))
    found = await keeper.by_age()
    assert len(named(found, "job")) == number - 2
    assert named(found, "dead letter") == []
    jobs = [job.id for job in await bench.queue.recent(10)]
    assert len(jobs) == 2
    assert not set(jobs) & set(ids[:3])
    assert await bench.queue.history(ids[0]) == []
    assert not await bench.inbox.store(make_event(9, key="last"))  # still known


async def test_what_is_requeued_while_others_are_removed_stays(bench, keeper, monkeypatch):
    monkeypatch.setattr(housekeeping, "_OLD_JOBS", housekeeping._OLD_JOBS.replace("1000", "0"))
    bench.manager.play = whole
    await bench.start()
    first, second = await finished(bench, 1), await finished(bench, 2)
    bench.time += 15 * DAY
    bench.settings.local_jobs = 0
    ids = keeper._ids

    async def found(query, values):
        names = await ids(query, values)
        if query is housekeeping._OLD_FOLDERS:
            assert names == [first, second]
            await bench.queue.requeue(second, by="me", why="", force=True)
        return names

    monkeypatch.setattr(keeper, "_ids", found)
    removed = await keeper.by_age()
    assert named(removed, "folder") == named(removed, "job") == [first]
    assert folders(bench) == [second]
    assert (await bench.queue.get(second)).state is State.QUEUED


async def test_only_what_belongs_to_nothing_is_cleaned_up(bench, keeper):
    await bench.start()
    running = await bench.submit()
    await eventually(lambda: bench.manager.submitted)
    bench.manager.submitted[0].plan("a")
    await bench.in_state(running, State.RUNNING)
    stray, pending = bench.folder / "jobs/stray", bench.folder / "jobs/pending"
    (stray / "1/fragments").mkdir(parents=True)
    (pending / "1/fragments").mkdir(parents=True)
    (pending / "1/fragments/a.h5").touch()

    def spoil(connection: sqlite3.Connection) -> None:
        for id_, state in (("odd", "finished"), ("active", "running")):
            connection.execute(
                """INSERT INTO jobs (id, proposal, run, data, match, cluster, mock, backend,
                   inputs, source, live, state, created) VALUES (?, 1, x'ff', 'raw', '[oops', 0, 0,
                   'local', '[]', 'x', 0, ?, 'yesterday')""",
                (id_, state),
            )
        connection.execute("INSERT INTO attempts (job, number, dispatched) VALUES ('gone', 1, 0)")

    await bench.db.write(spoil)
    before = await keeper.what_is_wrong(dry_run=True)
    assert folders(bench) == [running, "pending", "stray"]
    assert await keeper.what_is_wrong() == before
    removed = [(waste.kind, waste.name) for waste in before if not waste.kept]
    assert removed == [("row", "2"), ("folder", "stray"), ("attempts rows", "gone")]
    kept = {waste.name: waste.kept for waste in before if waste.kept}
    assert set(kept) == {"3", "pending"}
    assert folders(bench) == [running, "pending"]

    # What cannot be read is shown, and in nobody's way.
    records = Records(bench.db)
    listed = await records.recent(10)
    assert [(job["id"], bool(job["problem"])) for job in listed] == [
        ("active", True),
        (running, False),
    ]
    assert (listed[0]["run"], listed[0]["created"], listed[0]["match"]) == (None, None, None)
    assert "cannot be read" in (await records.job("active"))["problem"]
    bench.manager.submitted[0].end()
    await bench.settled(running)


async def test_ids_may_be_shortened(bench):
    records = Records(bench.db)
    await bench.db.open()
    works = [await bench.submit(run) for run in range(12)]
    assert works[0] == "j1"
    assert await records.find("j1") == "j1"  # whole, though others begin with it
    assert await records.find("j12") == "j12"
    with pytest.raises(AmbiguousJob, match=r"several jobs begin with 'j': .*, j8 …"):
        await records.find("j")
    for text in ("", "x", "j%"):
        with pytest.raises(UnknownJob, match="there is no job"):
            await records.find(text)
