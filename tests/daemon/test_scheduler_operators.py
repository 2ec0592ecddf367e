"""What operators decide about jobs that are under way, whatever happens at the same time."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from queue_helpers import eventually
from scheduler_bench import whole

from daemon.job_operations import JobOperations
from daemon.jobs.records import Records
from daemon.jobs.states import State

BY = "sam@node1"


@pytest.fixture
def operations(bench):
    """The operations on the bench's jobs, as at a daemon."""
    return at(bench, bench.scheduler)


def at(bench, scheduler):
    return JobOperations(
        SimpleNamespace(
            queue=bench.queue,
            records=Records(bench.db),
            folder=bench.folder,
            working_scheduler=scheduler,
            running=list,
        )
    )


async def running(bench):
    job = await bench.submit()
    await eventually(lambda: bench.manager.submitted)
    attempt = bench.manager.submitted[-1]
    attempt.plan("a", "b")
    attempt.result("a")
    await bench.in_state(job, State.RUNNING)
    return job, attempt


async def last(bench, job):
    line = (await bench.queue.history(job))[-1]
    return line["became"], line["who"], line["by"], line["why"]


async def test_the_log_has_each_act_with_who_and_why_and_each_end(bench, operations, caplog):
    caplog.set_level("INFO")
    bench.manager.play = whole
    await bench.start()
    done = await bench.settled(await bench.submit())
    await operations.requeue([done.id], BY, "the geometry was corrected", force=True)
    await eventually(lambda: len(bench.combined) == 2)
    said = [line for line in caplog.messages if done.id in line]
    acts = [f"{done.name}: queued by {BY}: the geometry was corrected"]
    assert said == [f"{done.name} finished", *acts, f"{done.name} finished"]


async def test_what_a_stopped_job_had_is_kept(bench, operations):
    await bench.start()
    job, attempt = await running(bench)
    answer = await operations.stop([job], BY, "wrong detector")
    assert [told["state"] for told in answer["jobs"]] == ["stop_requested"]
    assert await last(bench, job) == ("stop_requested", "ops", BY, "wrong detector")
    assert bench.manager.cancelled == {str(attempt.folder): "wrong detector"}
    attempt.end("stopped", "wrong detector")
    assert (await bench.settled(job)).state is State.STOPPED
    assert bench.combined == [(job, ["a"])]


async def test_a_job_that_finishes_while_it_is_stopped_has_finished(bench, operations):
    await bench.start()
    job, attempt = await running(bench)
    await operations.stop([job], BY, "late")
    attempt.result("b")
    attempt.end()
    assert (await bench.settled(job)).state is State.FINISHED
    assert bench.combined == [(job, ["a", "b"])]
    refused = (await operations.stop([job], BY, "later"))["refused"]
    why = f"job {job} has ended already: it is finished"
    assert refused == [{"id": job, "reason": why, "code": "conflict"}]


async def test_a_job_that_is_given_up_is_combined_once_when_it_has_ended(bench, operations):
    await bench.start()
    job, attempt = await running(bench)
    answer = await operations.fail([job], BY, "hangs")
    assert [told["state"] for told in answer["jobs"]] == ["failed"]
    assert bench.combined == []
    bench.manager.lost[str(attempt.folder)] = "gone"
    attempt.end("stopped", "hangs")
    assert (await bench.settled(job)).state is State.FAILED
    assert bench.combined == [(job, ["a"])]
    assert await bench.became(job) == ["queued", "dispatched", "running", "failed"]


async def test_what_is_dispatched_and_not_begun_is_taken_back_for_good(bench, operations):
    bench.manager.unclaimed = True
    await bench.start()
    job = await bench.submit()
    await eventually(lambda: bench.manager.submitted)
    attempt = bench.manager.submitted[0]
    answer = await operations.stop([job], BY, "not needed")
    assert [told["state"] for told in answer["jobs"]] == ["canceled"]
    assert not bench.revoke(attempt.folder)  # nobody can begin with it any more
    bench.manager.lost[str(attempt.folder)] = "no process had begun with it"
    await bench.settled(job)
    assert await bench.became(job) == ["queued", "dispatched", "canceled"]


async def test_what_is_taken_back_while_it_is_handed_over_is_concluded_once(bench, operations):
    handing_over, submit = asyncio.Event(), bench.manager.submit

    async def slow(folder):
        await handing_over.wait()
        return await submit(folder)

    bench.manager.submit, bench.manager.unclaimed = slow, True
    await bench.start()
    job = await bench.submit()
    attempt = bench.folder / "jobs" / job / "1"
    await eventually(attempt.exists)
    await operations.fail([job], BY, "not needed")
    await bench.settled(job)
    bench.manager.lost[str(attempt)] = "no process had begun with it"
    handing_over.set()
    await eventually(lambda: bench.manager.submitted and not bench.scheduler.running())
    other = await bench.submit(2)
    await eventually(lambda: other in bench.manager.jobs())
    await bench.stop()
    assert bench.combined == [(job, [])]


async def test_what_has_begun_cannot_be_canceled(bench, operations):
    await bench.start()
    bench.manager.play = lambda attempt: None
    job = await bench.submit()
    await eventually(lambda: bench.manager.submitted)
    (refused,) = (await operations.cancel([job], BY, "x"))["refused"]
    assert "it can be stopped, not canceled" in refused["reason"]


async def test_without_a_daemon_the_attempt_is_told_by_its_folder(bench):
    await bench.start()
    job, attempt = await running(bench)
    operations = at(bench, None)
    await operations.stop([job], BY, "at night")
    assert (attempt.folder / "stop").read_text() == "at night"


async def test_a_job_that_never_reached_its_folder_is_taken_back_without_a_daemon(bench):
    await bench.db.open()
    job = await bench.submit()
    assert (await bench.queue.claim()).id == job  # and killed before it made the folder
    answer = await at(bench, None).stop([job], BY, "at night")
    assert [told["state"] for told in answer["jobs"]] == ["canceled"]


async def test_requeued_jobs_compute_everything_anew(bench, operations):
    bench.manager.play = whole
    await bench.start()
    job = await bench.submit()
    await bench.settled(job)
    (refused,) = (await operations.requeue([job], BY, "again"))["refused"]
    assert "use --force" in refused["reason"]
    await operations.requeue([job], BY, "again", force=True)
    await eventually(lambda: len(bench.combined) == 2)
    assert bench.combined[1] == (job, ["a", "b"])
    assert Path(bench.manager.submitted[1].folder).name == "2"
    assert await last(bench, job) == ("finished", "owner", "", "")


async def test_a_job_that_is_stopped_while_its_context_turns_out_broken(bench, operations):
    await bench.start()
    job, attempt = await running(bench)
    await operations.stop([job], BY, "wrong detector")
    problem = {"message": "no such module", "line": 1, "variable": None, "mend": ""}
    attempt.end("broken", "broken", problems=[problem])
    stopped = await bench.settled(job)
    assert stopped.state is State.STOPPED
    assert "no such module" in stopped.reason


async def test_a_stopped_job_is_shown_without_hopes_and_with_no_foreign_file(bench, operations):
    await bench.start()
    job, attempt = await running(bench)
    attempt.say("started", variable="b")
    await operations.stop([job], BY, "wrong detector")
    attempt.end("stopped", "wrong detector")
    await bench.settled(job)
    request = bench.folder / "jobs" / job / "job.json"
    inside = bench.folder / "process_logs/r1-p1234.out"
    for named, shown in (("/etc/passwd", inside), ("../x", inside), (str(inside), inside)):
        request.write_text(json.dumps({"log": named}))
        assert (await operations.job(job))["log"] == str(shown)
    statuses = [each["status"] for each in (await operations.job(job))["results"]]
    assert statuses == ["finished", "not finished"]
