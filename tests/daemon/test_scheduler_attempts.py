"""What becomes of jobs whose attempts are lost, stopped or cannot begin."""

from queue_helpers import eventually, make_event
from scheduler_bench import PROBLEM, whole

from daemon.backends import ContextBroken
from daemon.jobs import dispatcher
from daemon.jobs.states import State, Who

# Lost attempts


async def test_a_lost_attempt_is_followed_by_another(bench):
    await bench.start()
    job_id = await bench.submit()
    await eventually(lambda: bench.manager.submitted)
    first = bench.manager.submitted[0]
    first.plan("a", "b")
    first.result("a")
    bench.manager.lost[str(first.folder)] = "its process 7 is gone"
    bench.manager.play = whole
    job = await bench.settled(job_id)
    assert (job.state, job.attempt, job.lost) == (State.FINISHED, 2, 1)
    assert (job_id, "finished", "a") in bench.applied  # the last lines of the lost one
    assert bench.combined == [(job_id, ["a", "a", "b"])]
    assert [a.folder.name for a in bench.manager.submitted] == ["1", "2"]


async def test_a_job_whose_attempts_are_used_up_fails_and_blocks_nobody(bench):
    def play(attempt):
        if attempt.job == "j2":
            whole(attempt)
            return
        attempt.plan("a", "b")
        attempt.say("started", variable="a")
        attempt.say("failed", variable="a", error={"type": "E", "message": "e", "traceback": ""})
        attempt.say("started", variable="b")
        bench.manager.lost[str(attempt.folder)] = "killed"

    errors = []
    bench.on_apply = lambda entries: errors.extend(
        e.fields["error"]["message"]
        for e in entries
        if e.fields.get("variable") == "b" and e.kind == "failed"
    )
    bench.manager.play = play
    bench.settings.local_jobs = 1
    await bench.start()
    bad, good = await bench.submit(1), await bench.submit(2)
    assert (await bench.settled(good)).state is State.FINISHED
    await bench.in_state(bad, State.QUEUED)
    bench.time += 100
    await eventually(lambda: len(bench.manager.submitted) == 4)
    job = await bench.settled(bad)
    assert job.state is State.FAILED
    assert job.reason == "killed (the last of 3 attempts that were lost)"
    assert bench.rows == [(1, job.reason)]
    assert errors == [f"its job was lost while it ran: {job.reason}"]  # once, after the last one
    # A daemon that was killed before that was in the table begins with it.
    await bench.scheduler.stop()
    await bench.queue._db.write(
        lambda c: c.execute("UPDATE jobs SET combined = 0 WHERE id = ?", (bad,))
    )
    await bench.start()
    await eventually(lambda: errors[1:] == errors[:1])


async def test_an_end_that_is_written_just_before_the_loss_counts(bench):
    def play(attempt):
        bench.manager.lost[str(attempt.folder)] = "its process is gone"
        whole(attempt)

    bench.manager.play = play
    await bench.start()
    job = await bench.settled(await bench.submit())
    assert (job.state, job.lost) == (State.FINISHED, 0)


async def test_stopped_by_others_is_lost(bench):
    def play(attempt):
        attempt.end("stopped", "SIGTERM") if attempt.folder.name == "1" else whole(attempt)

    bench.manager.play = play
    await bench.start()
    job = await bench.settled(await bench.submit())
    assert (job.state, job.lost) == (State.FINISHED, 1)


async def test_stopped_on_request_is_stopped(bench):
    await bench.start()
    job_id = await bench.submit()
    job = await bench.in_state(job_id, State.RUNNING)
    await bench.queue.transition(job, State.STOP_REQUESTED, Who.OPS, "not needed")
    bench.manager.submitted[0].end("stopped", "not needed")
    assert (await bench.settled(job_id)).state is State.STOPPED


async def test_what_cannot_be_started_fails_with_words_in_the_end(bench, caplog):
    bench.manager.refuse = ValueError("a strange request")
    await bench.start()
    job_id = await bench.submit()
    for lost in (1, 2, 3):
        await eventually(lambda lost=lost: caplog.text.count(f"attempt {lost} was lost") == 1)
        bench.time += 100
    job = await bench.settled(job_id)
    assert job.state is State.FAILED
    assert job.reason.startswith("it could not be started: a strange request")
    bench.manager.refuse, bench.manager.play = None, whole
    assert (await bench.settled(await bench.submit(2))).state is State.FINISHED


async def test_a_command_that_was_lost_is_not_executed_once_more(bench):
    await bench.start()
    job_id = await bench.submit(command={"command": "make"})
    await eventually(lambda: bench.manager.submitted)
    bench.manager.lost[str(bench.manager.submitted[0].folder)] = "killed"
    job = await bench.settled(job_id)
    assert (job.state, job.reason) == (State.FAILED, "killed")
    assert bench.rows == []  # it has no run


# A context that cannot be executed


async def test_events_wait_for_a_context_that_loads(bench):
    bench.manager.refuse = ContextBroken([PROBLEM])
    text = "context.py cannot be executed: line 3: invalid syntax"
    await bench.start()
    await bench.inbox.store(make_event(42))
    await eventually(lambda: bench.rows == [(42, text)])
    await bench.inbox.store(make_event(43))
    await eventually(lambda: len(bench.rows) == 2)
    assert bench.scheduler.waiting == text
    assert bench.scheduler.broken == [PROBLEM]
    assert bench.loads == [False]
    jobs = await bench.queue.recent(9)
    assert {(job.state, job.waiting_reason) for job in jobs} == {(State.QUEUED, text)}
    assert not list(bench.folder.glob("jobs/*/1"))
    last = next(u for u in reversed(bench.updates) if u["kind"] == "job")
    assert (last["id"], last["state"], last["reason"]) == ("j2", "queued", text)
    bench.manager.refuse, bench.manager.play = None, whole
    await bench.looked()
    assert bench.manager.submitted == []  # nothing has changed yet
    (bench.folder / "helper.py").write_text("x = 1")
    for job in jobs:
        done = await bench.settled(job.id)
        assert (done.state, done.lost, done.waiting_reason) == (State.FINISHED, 0, "")
    assert bench.scheduler.waiting is None
    assert bench.scheduler.broken is None
    assert bench.loads == [False, True, True]
    assert sorted(bench.rows) == [(42, text), (43, text)]


async def test_a_broken_context_is_tried_again_now_and_then(bench):
    bench.manager.refuse = ContextBroken([PROBLEM])
    await bench.start()
    job_id = await bench.submit()
    await eventually(lambda: bench.scheduler.waiting)
    bench.manager.refuse, bench.manager.play = None, whole
    bench.time -= 900  # the host's clock is put back
    bench.ticks += dispatcher.HOLD_SECONDS
    assert (await bench.settled(job_id)).state is State.FINISHED


async def test_a_context_that_is_known_to_be_mended_is_tried_at_once(bench):
    bench.manager.refuse = ContextBroken([PROBLEM])
    await bench.start()
    job_id = await bench.submit()
    await eventually(lambda: bench.scheduler.waiting)
    bench.manager.refuse, bench.manager.play = None, whole
    bench.scheduler.try_again()
    assert (await bench.settled(job_id)).state is State.FINISHED


async def test_nothing_is_said_to_wait_when_no_job_is_left(bench):
    bench.manager.refuse = ContextBroken([PROBLEM])
    await bench.start()
    job_id = await bench.submit()
    await eventually(lambda: bench.scheduler.waiting)
    waiting = await bench.in_state(job_id, State.QUEUED)
    await bench.queue.transition(waiting, State.CANCELED, Who.OPS, "not needed")
    bench.ticks += dispatcher.HOLD_SECONDS
    await eventually(lambda: bench.scheduler.waiting is None)


async def test_a_context_that_a_runner_finds_broken(bench):
    bench.manager.play = lambda attempt: attempt.end("broken", "broken", problems=[PROBLEM])
    await bench.start()
    job_id = await bench.submit()
    await eventually(lambda: bench.rows)
    assert bench.scheduler.waiting == "context.py cannot be executed: line 3: invalid syntax"
    assert bench.scheduler.broken == [PROBLEM]
    bench.manager.play = whole
    (bench.folder / "context.py").write_text("mended = True")
    job = await bench.settled(job_id)
    assert (job.state, job.lost, job.attempt) == (State.FINISHED, 0, 2)
