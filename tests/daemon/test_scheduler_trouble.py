"""What cannot be written, read or made costs no more than it has to."""

import asyncio
import errno
import sqlite3

from queue_helpers import eventually, make_event
from scheduler_bench import whole

from daemon.backends import Unavailable
from daemon.backends.configurations.errors import ConfigurationError
from daemon.jobs import folder, follower, holds, trouble
from daemon.jobs.states import State


async def test_a_full_disk_is_waited_out(bench, monkeypatch):
    monkeypatch.setattr(holds, "HOLD_SECONDS", 0.0)
    bench.manager.play = whole
    bench.manager.refuse = OSError(errno.ENOSPC, "No space left on device")
    full = {"applied": 3, "combined": 3, "arrived": 3}

    def refuse(what):
        def step(_):
            full[what] -= 1
            if full[what] >= 0:
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error if what != "combined" else OSError(errno.ENOSPC, "full")

        return step

    bench.on_apply, bench.on_combine, bench.on_arrived = map(refuse, full)
    await bench.start()
    await bench.inbox.store(make_event(42))
    await eventually(lambda: (bench.scheduler.waiting or "").startswith("jobs cannot be started"))
    assert "No space left on device" in bench.scheduler.waiting
    bench.manager.refuse = None
    job = await bench.settled("j1")
    assert (job.state, job.lost, job.reason) == (State.FINISHED, 0, "")
    assert bench.combined == [("j1", ["a", "b"])]
    assert bench.arrived == [42]


async def test_a_line_that_cannot_be_recorded_fails_its_job_only(bench):
    def refuse(entries):
        if any(e.fields.get("variable") == "b" and e.kind == "finished" for e in entries):
            raise ValueError("bad value")

    bench.on_apply, bench.manager.play = refuse, whole
    await bench.start()
    job = await bench.settled(await bench.submit())
    assert job.state is State.FAILED
    assert job.reason == "line 'finished' of b could not be recorded: ValueError: bad value"
    assert (job.id, "finished", "a") in bench.applied
    assert (job.id, "ended", None) in bench.applied
    assert bench.combined
    bench.on_apply = None
    assert (await bench.settled(await bench.submit(2))).state is State.FINISHED


async def test_a_manager_that_cannot_be_made_any_more_is_said_in_words(bench, monkeypatch, caplog):
    async def poll(handles):
        raise ConfigurationError(["there is no type 'gone'"])

    await bench.start()
    await bench.submit()
    with monkeypatch.context() as patch:
        patch.setattr(bench.manager, "poll", poll)
        said = "a manager cannot say how its jobs are: there is no type 'gone'"
        await eventually(lambda: said in caplog.text)
    assert "Traceback" not in caplog.text


async def test_a_job_that_cannot_be_followed_fails_and_is_ended(bench, monkeypatch):
    read = follower.JournalReader.read

    def damaged(reader):
        if reader._dir.parent.name == "j1":
            raise PermissionError(errno.EACCES, "Permission denied")
        return read(reader)

    monkeypatch.setattr(follower.JournalReader, "read", damaged)
    bench.manager.play = whole
    await bench.start()
    bad, good = await bench.submit(1), await bench.submit(2)
    job = await bench.settled(bad)
    assert job.state is State.FAILED
    assert "could not be followed: PermissionError" in job.reason
    assert list(bench.manager.cancelled) == [str(bench.folder / "jobs/j1/1")]
    assert (await bench.settled(good)).state is State.FINISHED


async def test_a_row_that_cannot_be_made_does_not_stop_the_event(bench):
    def refuse(event):
        raise ValueError("no such table")

    bench.on_arrived, bench.manager.play = refuse, whole
    await bench.start()
    await bench.inbox.store(make_event(42))
    await eventually(lambda: bench.combined)


async def test_a_run_file_that_cannot_be_made_is_told(bench):
    bench.manager.play = whole

    def refuse(job):
        raise RuntimeError("the process that makes it died, twice")

    bench.on_combine = refuse
    await bench.start()
    job = await bench.settled(await bench.submit())
    assert job.state is State.FINISHED
    assert (
        "not in the run file: the process that makes it died, twice; `combiner now`" in job.reason
    )
    assert bench.fragments(job.id) == ["a", "b"]


async def test_results_that_did_not_survive_are_computed_again_once(bench):
    bench.manager.play = whole
    bench.on_combine = lambda job: ["b"]
    await bench.start()
    await bench.settled(await bench.submit())
    job = await bench.settled("j1-again")
    assert (job.variables, job.data) == (("b",), "raw")
    assert "did not survive, twice" in job.reason
    assert len(await bench.queue.recent(9)) == 2


async def test_jobs_of_a_run_are_combined_in_the_order_of_their_ends(bench):
    failing = iter([True, True])
    bench.manager.play = whole

    def slow_first(job):
        if job.id == "j1" and next(failing, False):
            raise OSError(errno.ENOSPC, "full")

    bench.on_combine = slow_first
    await bench.start()
    await bench.submit(1)
    second = await bench.submit(1)
    await bench.settled(second)
    assert [job for job, _ in bench.combined] == ["j1", "j2"]


async def test_folders_that_are_gone_stop_nobody(bench):
    await bench.start()
    bad, good = await bench.submit(1), await bench.submit(2)
    await eventually(lambda: len(bench.manager.submitted) == 2)
    attempt = bench.manager.submitted[0]
    for path in attempt.folder.iterdir():
        path.rmdir() if path.is_dir() else path.unlink()
    attempt.folder.rmdir()
    bench.manager.lost[str(attempt.folder)] = "its folder is gone"
    whole(bench.manager.submitted[1])
    assert (await bench.settled(good)).state is State.FINISHED
    bench.manager.play = whole
    assert (await bench.settled(bad)).state is State.FINISHED


async def test_a_folder_that_is_closed_to_all_is_waited_for(bench, monkeypatch):
    closed = [True]

    def folder_of(job, number, make=folder.new_attempt):
        if closed[0] or job.name == "j1":
            raise PermissionError(errno.EACCES, "Permission denied", str(job))
        return make(job, number)

    monkeypatch.setattr(folder, "new_attempt", folder_of)
    monkeypatch.setattr(trouble, "_is_closed", lambda _: closed[0])
    bench.manager.play = whole
    await bench.start()
    bad, good = await bench.submit(1), await bench.submit(2)
    await eventually(lambda: "Permission denied" in (bench.scheduler.waiting or ""))
    assert (await bench.queue.get(bad)).lost == 0
    closed[0] = False
    bench.ticks += 100
    assert (await bench.settled(good)).state is State.FINISHED
    for _ in range(3):
        bench.time += 100
        bench.scheduler.reconsider()
        await eventually(lambda: True)
    job = await bench.settled(bad)
    assert (job.state, "could not be started" in job.reason) == (State.FAILED, True)


async def test_one_of_many_events_whose_row_cannot_be_made_holds_up_none(bench):
    tries = []

    def refuse(event):
        tries.append(event.run)
        if event.run == 13:
            raise ValueError("no such row")

    bench.on_arrived, bench.settings.local_jobs = refuse, 0
    stored = (bench.inbox.store(make_event(run)) for run in [*range(1, 31), 7])
    assert sum(await asyncio.gather(*stored)) == 30
    await bench.start()
    await eventually(lambda: tries.count(13) == 2 and tries[-1] == 30)
    await eventually(lambda: len([u for u in bench.updates if u["kind"] == "job"]) == 30)
    assert [job.run for job in reversed(await bench.queue.recent(99))] == list(range(1, 31))


async def test_a_job_that_cannot_be_handed_over_keeps_its_number(bench):
    bench.tick = holds.HOLD_SECONDS
    submit, tried = bench.manager.submit, []

    async def refuse(folder):
        tried.append(folder.name)
        raise Unavailable("its engine is away" if len(tried) < 6 else "its engine is broken")

    bench.manager.submit = refuse
    bench.manager.play = whole
    await bench.start()
    job = await bench.submit()
    await eventually(lambda: bench.scheduler.reconsider() or len(tried) > 10)
    bench.manager.submit = submit
    job = await bench.settled(job)
    assert (job.state, job.attempt) == (State.FINISHED, 1)
    assert {*tried} == {"1"}
    history = [(line["became"], line["why"]) for line in await bench.queue.history(job.id)]
    assert history[:4] == [
        ("queued", "test"),
        ("queued", "backend local: its engine is away"),
        ("queued", "backend local: its engine is broken"),
        ("dispatched", "its turn"),
    ]
