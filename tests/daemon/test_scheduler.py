"""The way of an event through the scheduler, and what follows from it."""

import asyncio
import json
from contextlib import suppress

from queue_helpers import eventually, make_event
from scheduler_bench import whole

from daemon.backends import Unavailable
from daemon.backends.configurations.errors import ConfigurationError
from daemon.database import Database
from daemon.jobs import dispatcher
from daemon.jobs.progress import where_was
from daemon.jobs.states import State


async def test_from_event_to_finished_job(bench):
    bench.manager.play = whole
    await bench.start()
    await bench.inbox.store(make_event(42))
    await eventually(lambda: bench.combined)
    job = await bench.settled("j1")
    assert job.state is State.FINISHED
    assert bench.arrived == [42]
    assert [row for row in bench.applied if row[1] == "finished"] == [
        ("j1", "finished", "a"),
        ("j1", "finished", "b"),
    ]
    assert bench.combined == [("j1", ["a", "b"])]
    await eventually(lambda: not (bench.folder / "jobs/j1/1/fragments").exists())
    request = json.loads((bench.folder / "jobs/j1/job.json").read_text())
    assert request["run"] == 42
    assert await bench.became("j1") == ["queued", "dispatched", "running", "finished"]
    told = [update["state"] for update in bench.updates if update["kind"] == "job"]
    assert told == ["queued", "dispatched", "finished"]
    assert [update["kind"] for update in bench.updates][2:-1] == ["result", "result"]


async def test_what_a_job_waits_for_on_its_backend_is_told(bench):
    await bench.start()
    manager = bench.manager
    manager.unclaimed = True
    manager.waits, manager.place = "waits in Slurm: nodes are taken", "Slurm job 12_0"
    job_id = await bench.submit(run=7)
    told = {"kind": "waiting", "job": job_id, "proposal": 1234, "run": 7, "reason": manager.waits}
    await eventually(lambda: told in bench.updates)
    assert bench.scheduler.waits([job_id]) == [told]
    assert bench.scheduler.waits(["another"]) == []
    (waiting,) = bench.scheduler.running()
    assert (waiting["begun"], waiting["waits"], waiting["place"]) == (
        False,
        manager.waits,
        manager.place,
    )
    # It began and ended long before anybody looked, by a clock that is a little ahead.
    bench.time, manager.place, (attempt,) = 1100.0, "", manager.submitted
    attempt.say("claimed", 0, time=1020.0, user="me", host="node7", place="Slurm job 12_0 on n7")
    attempt.end(time=1101.5)
    job = await bench.settled(job_id)
    assert (job.started, job.ended) == (1020.0, 1100.0)
    assert bench.scheduler.waits([job_id]) == []
    assert where_was(attempt.folder) == "me@node7, Slurm job 12_0 on n7"
    assert where_was(attempt.folder.with_name("9")) == ""


async def test_what_ends_before_it_begins_is_known_by_the_name_that_it_had(bench):
    await bench.start()
    bench.manager.unclaimed, bench.manager.place = True, "Slurm job 12_0"
    job_id = await bench.submit()
    await eventually(lambda: [job for job in bench.scheduler.running() if job["place"]])
    (attempt,) = bench.manager.submitted
    attempt.end("failed", "somebody cancelled it in Slurm")
    await bench.settled(job_id)
    assert (await bench.queue.history(job_id))[-1]["by"] == "Slurm job 12_0"


async def test_results_are_taken_in_as_they_come(bench):
    await bench.start()
    job_id = await bench.submit()
    await eventually(lambda: bench.manager.submitted)
    attempt = bench.manager.submitted[0]
    await bench.in_state(job_id, State.RUNNING)
    attempt.plan("a", "b")
    attempt.say("started", variable="a")
    await eventually(lambda: (job_id, "started", "a") in bench.applied)
    (running,) = bench.scheduler.running()
    assert running | {"since": 0} == {
        **{"job": job_id, "proposal": 1234, "run": 1, "data": "raw"},
        **{"variable": "a", "since": 0, "done": 0, "total": 2, "progress": None},
        **{"backend": "local", "command": None, "begun": True, "waits": "", "place": ""},
    }
    report = {"done": 3, "total": 10, "text": "frames"}
    attempt.say("progress", variable="a", **report)
    await eventually(lambda: bench.scheduler.running()[0]["progress"] == report)
    attempt.result("a")
    await eventually(lambda: (job_id, "finished", "a") in bench.applied)
    assert bench.scheduler.running()[0]["done"] == 1
    assert bench.scheduler.running()[0]["progress"] is None
    attempt.end()
    assert (await bench.settled(job_id)).state is State.FINISHED
    assert bench.scheduler.running() == []


async def test_lines_are_found_without_any_wake(bench):
    await bench.start()
    bench.manager.wake = lambda job: None
    bench.manager.play = whole
    assert (await bench.settled(await bench.submit())).state is State.FINISHED


async def test_each_backend_has_its_own_room(bench):
    await bench.start()

    def rooms(backend):
        if backend == "short":
            raise Unavailable("1.0 GB of memory are free")
        if backend == "gone":
            raise ConfigurationError(["there is no backend 'gone'"])
        return {"slow": 1}.get(backend, 2)

    bench.manager.rooms = rooms
    order = ["slow", "slow", "gone", "short", "local", "local", "local"]
    ids = [await bench.submit(run, backend=b) for run, b in enumerate(order)]
    await eventually(lambda: len(bench.manager.submitted) == 3)
    await bench.looked()
    assert bench.manager.jobs() == [ids[0], ids[4], ids[5]]
    waiting = "backend gone: there is no backend 'gone'"
    assert bench.scheduler.waiting == f"{waiting}; backend short: 1.0 GB of memory are free"
    await eventually(lambda: bench.rows == [] and bench.scheduler.waiting)
    assert (await bench.queue.get(ids[2])).waiting_reason == waiting
    assert (await bench.queue.get(ids[6])).waiting_reason == ""
    whole(bench.manager.submitted[0])
    await eventually(lambda: bench.manager.jobs()[3:] == [ids[1]])
    bench.manager.rooms = lambda backend: 9
    bench.ticks += dispatcher.HOLD_SECONDS
    bench.scheduler.reconsider()
    await eventually(lambda: {*bench.manager.jobs()} == {*ids})
    assert bench.scheduler.waiting is None


async def test_a_backend_that_takes_long_to_start_a_job_holds_up_only_its_own(bench, monkeypatch):
    monkeypatch.setattr(dispatcher, "PATIENCE_SECONDS", 0.02)
    submit, offered, answer = bench.manager.submit, [], asyncio.Event()

    async def slow(folder):
        offered.append(folder.parent.name)
        if folder.parent.name == slow_ids[0]:
            await answer.wait()
        return await submit(folder)

    async def room(backend, at_work):
        counted.append(at_work["slow"])
        return 2 - at_work[backend]

    counted = []
    bench.manager.room = room
    bench.manager.submit, bench.manager.play = slow, whole
    slow_ids = [f"j{number}" for number in (1, 2)]
    for run in (1, 2):
        await bench.submit(run, backend="slow")
    await bench.start()
    await eventually(lambda: offered)
    for run in (3, 4):
        assert (await bench.settled(await bench.submit(run))).state is State.FINISHED
    await bench.looked()
    assert offered == ["j1", "j3", "j4"]
    # What is just being started shares its machine already.
    assert (counted[0], {*counted[1:]}) == (0, {1})
    answer.set()
    for job in slow_ids:
        assert (await bench.settled(job)).state is State.FINISHED
    # One that is still being started does not keep the daemon from ending; the next goes on.
    answer.clear()
    slow_ids[0] = await bench.submit(5, backend="slow")
    await eventually(lambda: slow_ids[0] in offered)
    async with asyncio.timeout(10):
        await bench.scheduler.stop()
    assert (await bench.queue.get(slow_ids[0])).state is State.DISPATCHED
    answer.set()
    await bench.start()
    assert (await bench.settled(slow_ids[0])).state is State.FINISHED


async def test_a_backend_that_takes_nothing_now_holds_up_only_its_own_jobs(bench):
    bench.manager.refuse_on["away"] = Unavailable("its controller does not answer")
    bench.manager.play = whole
    await bench.start()
    away = await bench.submit(backend="away")
    live = await bench.submit(2, backend="away", live=True)
    here = await bench.submit(3)
    assert (await bench.settled(here)).state is State.FINISHED
    why = "backend away: its controller does not answer"
    assert bench.scheduler.waiting == why
    await eventually(lambda: (2, why) in bench.rows)
    assert {"kind": "held"} in bench.updates  # for who follows the other one
    for job in (away, live):
        job = await bench.in_state(job, State.QUEUED)
        assert (job.waiting_reason, job.attempt) == (why, job.attempt)
        assert job.lost == 0
    late = await bench.submit(4, backend="away", live=True)
    bench.manager.refuse_on.clear()
    bench.ticks += dispatcher.HOLD_SECONDS
    bench.scheduler.reconsider()
    for job in (away, live, late):
        assert (await bench.settled(job)).state is State.FINISHED
    assert bench.scheduler.waiting is None
    assert (await bench.queue.get(away)).waiting_reason == ""


async def test_a_job_that_fails_keeps_its_results_and_says_why(bench):
    def late(attempt):
        attempt.plan("a", "b")
        attempt.result("a")
        attempt.end("failed", "the job took longer than 60 s")

    bench.manager.play = late
    await bench.start()
    job = await bench.settled(await bench.submit())
    assert (job.state, job.reason) == (State.FAILED, "the job took longer than 60 s")
    assert bench.combined == [(job.id, ["a"])]
    assert bench.updates[-1]["reason"] == job.reason


# Cluster variables


async def test_cluster_variables_follow_in_a_job_of_their_own(bench):
    def play(attempt):
        if attempt.job.endswith("cluster"):
            assert bench.fragments("j1") == ["a"]  # what it needs is still there
            return
        attempt.plan("a", cluster=[])
        attempt.result("a")
        attempt.end()

    bench.manager.play = play
    await bench.start()
    await bench.submit()
    await eventually(lambda: bench.manager.jobs() == ["j1", "j1-cluster"])
    await bench.settled("j1")
    after = bench.manager.submitted[1]
    after.plan("c")
    after.result("c")
    assert bench.fragments("j1") == ["a"]
    after.end()
    job = await bench.settled("j1-cluster")
    assert (job.inputs, job.part, job.backend) == (("j1",), "cluster", "cluster")
    await eventually(lambda: not bench.fragments("j1") and not bench.fragments("j1-cluster"))
    told = [(u["id"], u["state"]) for u in bench.updates if u["kind"] == "job"]
    assert told.index(("j1-cluster", "queued")) < told.index(("j1", "finished"))
    assert next(u for u in bench.updates if u.get("id") == "j1-cluster")["after"] == "j1"


async def test_no_cluster_job_after_a_failure(bench):
    def play(attempt):
        attempt.plan("a", cluster=[])
        attempt.end("failed", "the run cannot be opened")

    bench.manager.play = play
    await bench.start()
    await bench.settled(await bench.submit())
    assert len(await bench.queue.recent(9)) == 1


async def test_a_job_that_another_backend_goes_on_with(bench):
    await bench.start()
    job_id = await bench.submit(backend="sequential")
    await eventually(lambda: bench.manager.submitted)
    request = bench.folder / "jobs" / job_id / "job.json"
    assert json.loads(request.read_text())["backend"] == "sequential"
    bench.manager.play = whole
    bench.manager.lost[str(bench.manager.submitted[0].folder)] = "its command is gone"
    await bench.settled(job_id)
    assert json.loads(request.read_text())["backend"] == "local"


async def test_idle_is_idle(bench, monkeypatch):
    await bench.start()
    bench.manager.play = whole
    await bench.settled(await bench.submit())
    called = asyncio.Event()
    write, read = Database.write, Database.read
    monkeypatch.setattr(Database, "write", lambda *a: called.set() or write(*a))
    monkeypatch.setattr(Database, "read", lambda *a: called.set() or read(*a))

    async def quiet():
        called.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(called.wait(), 0.3)
        return not called.is_set()

    async with asyncio.timeout(20):
        while not await quiet():
            pass
