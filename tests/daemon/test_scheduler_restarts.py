"""Ends and starts of the daemon, at every moment of a job."""

import asyncio
import errno

from queue_helpers import eventually, make_event
from scheduler_bench import whole

from daemon.jobs import finisher, scheduler
from daemon.jobs.job import Work
from daemon.jobs.states import State


async def test_running_jobs_are_taken_up_again(bench):
    await bench.start()
    job_id = await bench.submit()
    await bench.in_state(job_id, State.RUNNING)
    attempt = bench.manager.submitted[0]
    attempt.plan("a", "b", cluster=[])
    attempt.result("a")
    await eventually(lambda: (job_id, "finished", "a") in bench.applied)
    await bench.again()
    await eventually(lambda: bench.scheduler.running() and bench.scheduler.running()[0]["done"])
    assert bench.scheduler.running()[0]["total"] == 2
    attempt.result("b")
    attempt.end()
    await bench.settled(job_id)
    finished = [row for row in bench.applied if row[1] == "finished"]
    assert finished == [(job_id, "finished", "a"), (job_id, "finished", "b")]  # each once
    assert (await bench.queue.get(f"{job_id}-cluster")).inputs == (job_id,)


async def test_an_end_while_nobody_looked_is_found(bench):
    await bench.start()
    job_id = await bench.submit()
    await bench.in_state(job_id, State.RUNNING)
    await bench.scheduler.stop()
    whole(bench.manager.submitted[0])
    await bench.again()
    assert (await bench.settled(job_id)).state is State.FINISHED


async def test_what_never_began_is_queued_as_it_was(bench):
    bench.manager.unclaimed = True
    await bench.start()
    job_id = await bench.submit()
    await eventually(lambda: bench.manager.submitted)
    await bench.scheduler.stop()
    bench.manager.unclaimed, bench.manager.play = False, whole
    await bench.again()
    job = await bench.settled(job_id)
    assert (job.state, job.lost, job.attempt) == (State.FINISHED, 0, 2)
    assert not bench.manager.submitted[0].folder.exists()


async def test_a_late_runner_that_was_faster_than_the_revocation_is_followed(bench):
    bench.manager.unclaimed = True
    await bench.start()
    job_id = await bench.submit()
    await eventually(lambda: bench.manager.submitted)
    await bench.scheduler.stop()
    bench.manager.submitted[0].claim()
    await bench.again()
    await bench.in_state(job_id, State.RUNNING)
    whole(bench.manager.submitted[0])
    job = await bench.settled(job_id)
    assert (job.state, job.attempt) == (State.FINISHED, 1)


async def test_claimed_by_the_queue_but_killed_before_the_folder_was_made(bench):
    await bench.queue.create([Work(proposal=1, run=1, data="raw", source="t", live=True)])
    job = await bench.queue.claim()
    bench.manager.play = whole
    await bench.again()
    assert (await bench.settled(job.id)).lost == 0


async def test_killed_between_the_end_and_the_run_file(bench, monkeypatch):
    monkeypatch.setattr(scheduler, "LAST_SECONDS", 0.05)
    await bench.start()
    bench.manager.play = whole
    gate = asyncio.Event()

    async def never(job):
        gate.set()
        await asyncio.Event().wait()

    combine, bench.combine = bench.combine, never
    job_id = await bench.submit()
    await asyncio.wait_for(gate.wait(), 10)
    await bench.stop()  # gives up on it, as a kill would
    bench.open()
    assert not (await bench.queue.get(job_id)).settled
    assert bench.combined == []
    bench.combine = combine
    await bench.again()
    await bench.settled(job_id)
    assert bench.combined == [(job_id, ["a", "b"])]


async def test_killed_between_the_run_file_and_the_removal(bench):
    job = await finished_without_a_daemon(bench)
    (bench.folder / "jobs" / job.id / "1" / "fragments" / "a.h5").touch()
    await bench.queue.set_combined(job)
    await bench.again()
    await eventually(lambda: not bench.fragments(job.id))
    assert bench.combined == []


async def finished_without_a_daemon(bench):
    await bench.queue.create([Work(proposal=1, run=1, data="raw", source="t", live=True)])
    job = await bench.queue.claim()
    (bench.folder / "jobs" / job.id / "1" / "fragments").mkdir(parents=True)
    return await bench.queue.finish(job, State.FINISHED, "", offsets={})


async def test_killed_after_taking_in_the_end_but_before_saying_so(bench):
    """The offsets may be past the line `ended` while the job still counts as running."""
    await bench.start()
    job_id = await bench.submit()
    job = await bench.in_state(job_id, State.RUNNING)
    await bench.scheduler.stop()
    attempt = bench.manager.submitted[0]
    attempt.plan("a", cluster=[])
    attempt.end()
    sizes = {path.name: path.stat().st_size for path in attempt.folder.glob("*.jsonl")}
    await bench.queue.save_offsets(job, sizes)
    await bench.again()
    await bench.settled(job_id)
    assert (await bench.queue.get(f"{job_id}-cluster")).part


async def test_stop_gives_running_jobs_their_grace(bench):
    bench.settings.stop_grace = 20
    await bench.start()
    job_id = await bench.submit()
    await bench.in_state(job_id, State.RUNNING)
    stopping = asyncio.create_task(bench.scheduler.stop())
    await eventually(lambda: "Dispatcher.run" not in repr(asyncio.all_tasks()))
    other = (
        await bench.queue.create([Work(proposal=1, run=9, data="raw", source="t", live=True)])
    )[0]
    whole(bench.manager.submitted[0])
    await asyncio.wait_for(stopping, 10)
    assert (await bench.queue.get(job_id)).settled
    assert (await bench.queue.get(other.id)).state is State.QUEUED


async def test_stop_leaves_no_fragments_that_nobody_needs(bench, monkeypatch):
    monkeypatch.setattr(finisher, "CLEAN_SECONDS", 60.0)
    bench.manager.play = whole
    await bench.start()
    job = await bench.settled(await bench.submit())
    assert bench.fragments(job.id)
    await bench.scheduler.stop()
    assert not bench.fragments(job.id)


async def test_stop_leaves_what_takes_longer(bench):
    await bench.start()
    job_id = await bench.submit()
    await bench.in_state(job_id, State.RUNNING)
    await bench.scheduler.stop()
    assert (await bench.queue.get(job_id)).state is State.RUNNING
    assert bench.manager.cancelled == {}


async def test_a_job_that_cannot_be_taken_up_again_fails_alone(bench, caplog):
    await bench.start()
    bad, good = await bench.submit(1), await bench.submit(2)
    for job_id in (bad, good):
        await bench.in_state(job_id, State.RUNNING)
    await bench.scheduler.stop()
    change = "UPDATE attempts SET offsets = '{' WHERE job = ?"
    await bench.db.write(lambda connection: connection.execute(change, (bad,)))
    bench.settings.max_attempts = 1
    await bench.again()
    assert (await bench.settled(bad)).reason.startswith("it cannot be taken up again")
    whole(bench.manager.submitted[1])
    assert (await bench.settled(good)).state is State.FINISHED


async def test_what_operators_have_ended_is_ended_by_the_next_daemon(bench):
    """The one that they asked was killed between the act and the end of the processes."""
    await bench.start()
    stopped, failed = [await bench.submit(run) for run in (1, 2)]
    for job_id in (stopped, failed):
        await bench.in_state(job_id, State.RUNNING)
    attempts = {attempt.job: attempt for attempt in bench.manager.submitted}
    await bench.scheduler.stop()
    await bench.queue.stop(stopped, by="alice@host", why="the beam is off")
    await bench.queue.fail(failed, by="alice@host", why="it never ends")
    await bench.again()
    assert bench.manager.cancelled == {
        str(attempts[stopped].folder): "the beam is off",
        str(attempts[failed].folder): "it never ends",
    }
    attempts[stopped].end("stopped", "the beam is off")
    assert (await bench.settled(stopped)).state is State.STOPPED
    assert (await bench.settled(failed)).reason == "it never ends"


async def test_what_was_taken_back_is_followed_until_its_backend_has_let_go_of_it(bench):
    bench.manager.unclaimed = True
    await bench.start()
    job_id = await bench.submit()
    await eventually(lambda: bench.manager.submitted)
    handle = f"{bench.manager.submitted[0].folder}\n12"
    await bench.queue.save_handle(await bench.queue.get(job_id), handle)
    await bench.scheduler.stop()
    await bench.queue.cancel(job_id, by="alice@host", why="not wanted")
    await bench.again()
    assert [each["job"] for each in bench.scheduler.running()] == [job_id]
    assert not (await bench.queue.get(job_id)).settled
    bench.manager.lost[handle] = "nobody had begun with it"
    job = await bench.settled(job_id)
    assert (job.state, job.reason, job.attempt) == (State.CANCELED, "not wanted", 1)


async def test_a_clock_that_steps_back_an_hour_costs_nothing(bench):
    bench.time = 1e9
    await bench.start()
    await bench.inbox.store(make_event(1))
    first = await eventually(lambda: bench.manager.submitted and bench.manager.submitted[0])
    bench.settings.local_jobs = 1
    bench.time -= 3600
    for run in (2, 3):
        await bench.inbox.store(make_event(run))
    await eventually(lambda: {u["id"] for u in bench.updates if u["kind"] == "job"} >= {"j3"})
    bench.manager.play = whole
    whole(first)
    await eventually(lambda: len(bench.combined) == 3)
    assert [job for job, _ in bench.combined] == ["j1", "j3", "j2"]
    for job in ("j1", "j2", "j3"):
        assert (await bench.settled(job)).state is State.FINISHED
        changes = [(row["was"], row["became"]) for row in await bench.queue.history(job)]
        assert [was for was, _ in changes[1:]] == [became for _, became in changes[:-1]]
    assert await bench.inbox.pending() == []
    bench.manager.refuse = OSError(errno.ENOSPC, "No space left on device")
    held = await bench.submit(4)
    await eventually(lambda: bench.scheduler.waiting)
    bench.manager.refuse = None
    bench.time, bench.ticks = bench.time - 3600, bench.ticks + 100
    bench.scheduler.reconsider()
    assert (await bench.settled(held)).state is State.FINISHED
