import logging
from itertools import count

import pytest

from daemon.database import Database
from daemon.jobs import folder
from daemon.jobs.changes import Stamp, UnknownJob
from daemon.jobs.job import LOCAL, SEQUENTIAL, SUBMISSION, Work
from daemon.jobs.left_results import NOT_IN_FILE, left_results, try_again
from daemon.jobs.parts import Later
from daemon.jobs.queue import Queue
from daemon.jobs.states import TERMINAL, OldAttempt, Refused, State, Who
from daemon.jobs.tables import MIGRATIONS

ME = {"by": "alice@host", "why": "the beam was off"}


@pytest.fixture
async def queue(tmp_path):
    database = Database(tmp_path / "daemon.sqlite", migrations=MIGRATIONS, wal=True)
    numbers = count(1)
    yield Queue(
        database,
        log=logging.getLogger("acts"),
        now=lambda: 1000.0,
        new_id=lambda now: f"j{next(numbers)}",
    )
    await database.close()


def work(**extra):
    values = {"proposal": 1234, "run": 42, "data": "raw", "source": "test", "live": False}
    return Work(**values | extra)


async def job_in(queue, state, **extra):
    """A job in `state`, with its results in the run file if it has ended."""
    (job,) = await queue.create([work(**extra)])
    if state is State.QUEUED:
        return job
    if state is State.CANCELED:
        return await queue.cancel(job.id, by="", why="")
    job = await queue.claim()
    if state is State.DISPATCHED:
        return job
    await queue.transition(job, State.RUNNING, Who.OWNER, "")
    if state in (State.STOP_REQUESTED, State.STOPPED):
        await queue.stop(job.id, by="", why="")
    if state in TERMINAL:
        await queue.finish(job, state, "", offsets={})
        await queue.set_combined(job)
    return await queue.get(job.id)


# What an act makes of a job in each state, without and with force; None: it is refused.
N, Q, S = None, State.QUEUED, State.STOP_REQUESTED
C, F = State.CANCELED, State.FAILED
OUTCOMES = {
    # queued dispatched running stop_requested stopped finished failed canceled
    ("requeue", False): (Q, N, N, N, Q, N, Q, Q),
    ("requeue", True): (Q, N, N, N, Q, Q, Q, Q),
    ("stop", False): (C, S, S, S, State.STOPPED, N, N, N),
    ("cancel", False): (C, C, N, N, N, N, N, C),
    ("fail", False): (N, F, F, F, N, N, F, N),
    ("fail", True): (F, F, F, F, N, N, F, N),
}
STATES = [state for state in State if state is not State.LAUNCHING]


@pytest.mark.parametrize(("act", "force"), OUTCOMES)
async def test_each_act_on_a_job_in_each_state(queue, act, force):
    more = {**ME, "force": force} if act in ("requeue", "fail") else ME
    for run, (state, to) in enumerate(zip(STATES, OUTCOMES[act, force], strict=True)):
        job = await job_in(queue, state, run=run)
        before = await queue.history(job.id)
        if to is None:
            with pytest.raises(Refused, match=f"{job.id} (is|has|needs).*"):
                await getattr(queue, act)(job.id, **more)
            assert await queue.get(job.id) == job
            assert await queue.history(job.id) == before
            continue
        changed = await getattr(queue, act)(job.id, **more)
        assert changed == await queue.get(job.id)
        assert changed.state is to
        news = (await queue.history(job.id))[len(before) :]
        told = [(row["was"], row["became"], row["who"], row["by"], row["why"]) for row in news]
        expected = (state, to, "ops", "alice@host", "the beam was off")
        assert told == ([] if to is state else [expected])


async def test_there_has_to_be_such_a_job(queue):
    with pytest.raises(UnknownJob, match="no job nothing"):
        await queue.requeue("nothing", **ME)


async def test_a_requeued_job_is_a_new_attempt_that_computes_everything(queue, tmp_path):
    job = await job_in(queue, State.FINISHED, backend=SEQUENTIAL)
    old = folder.new_attempt(tmp_path / job.id, job.attempt)
    again = await queue.requeue(job.id, force=True, **ME)
    assert (again.attempt, again.first_attempt, again.backend) == (1, 2, LOCAL)
    assert (again.started, again.ended, again.reason, again.lost) == (None, None, "", 0)
    for report in (State.RUNNING, State.FINISHED):  # the old attempt has ended
        with pytest.raises(Refused):
            await queue.transition(job, report, Who.OWNER, "late")
    claimed = await queue.claim()
    assert (claimed.id, claimed.attempt) == (job.id, 2)
    with pytest.raises(OldAttempt):
        await queue.transition(job, State.RUNNING, Who.OWNER, "late")
    folder.set_aside(tmp_path / job.id, claimed.first_attempt)
    assert not old.exists()
    assert [path.name for path in (tmp_path / job.id / folder.BEFORE / "1").iterdir()] == []
    await queue.finish(claimed, State.FINISHED, "", offsets={}, later=[Later("cluster")])
    assert (await queue.get(f"{job.id}-2-cluster")).after == job.id
    history = [(row["attempt"], row["became"]) for row in await queue.history(job.id)]
    assert history == [
        *((0, "queued"), (1, "dispatched"), (1, "running"), (1, "finished")),
        *((1, "queued"), (2, "dispatched"), (2, "running"), (2, "finished")),
    ]
    assert [job.id for job in await queue.to_combine()] == [job.id]


async def test_requeued_and_taken_back_is_as_if_it_never_was(queue):
    job = await job_in(queue, State.FAILED)
    await queue.requeue(job.id, **ME)
    canceled = await queue.cancel(job.id, **ME)
    assert canceled.settled
    assert await queue.to_combine() == []


async def test_what_cannot_be_computed_again_is_not_requeued(queue):
    submitted = await job_in(queue, State.FAILED, source=SUBMISSION)
    with pytest.raises(Refused, match="submit it again"):
        await queue.requeue(submitted.id, **ME)
    first = await job_in(queue, State.FINISHED, run=1)
    cluster = await job_in(queue, State.FAILED, run=1, part="cluster", inputs=(first.id,))
    # They are kept for it until another job has taken its place.
    await queue.clean(lambda job: job.id == first.id)
    assert (await queue.requeue(cluster.id, **ME)).state is State.QUEUED
    await queue.cancel(cluster.id, **ME)
    await job_in(queue, State.FINISHED, run=1, part="cluster")
    await queue.clean(lambda job: job.id == first.id)
    with pytest.raises(Refused, match=f"{first.id}: requeue that, or reprocess run 1"):
        await queue.requeue(cluster.id, **ME)


async def test_results_are_put_away_before_a_job_is_requeued(queue):
    (job,) = await queue.create([work()])
    await queue.finish(await queue.claim(), State.FAILED, "", offsets={})
    with pytest.raises(Refused, match="try again in a moment"):
        await queue.requeue(job.id, **ME)


async def test_an_attempt_is_lost_only_once(queue):
    await queue.create([work()])
    job = await queue.claim()
    await queue.lose(job, "gone", max_attempts=3)
    for again in (
        queue.lose(job, "gone", max_attempts=3),
        queue.give_back(job, "not now", ran=False),
    ):
        with pytest.raises(Refused, match="not under way any more: the job is queued"):
            await again
    assert (await queue.get(job.id)).lost == 1


async def test_left_results_are_tried_again_once_and_not_of_what_was_requeued(tmp_path):
    database = Database(tmp_path / "daemon.sqlite", migrations=MIGRATIONS, wal=True)
    queue = Queue(database, log=logging.getLogger("acts"), now=lambda: 1000.0)
    at = Stamp(1001.0, "alice@host")
    twice, requeued, bad = [await job_in(queue, State.FAILED, run=run) for run in (1, 2, 3)]

    def leave(connection):
        query = "UPDATE jobs SET combined = 2, reason = ?"
        connection.execute(query, (f"killed; {NOT_IN_FILE}: no space",))
        connection.execute("UPDATE jobs SET match = '[oops' WHERE id = ?", (bad.id,))

    await database.write(leave)
    found = [job for job, _ in await database.read(left_results)]
    assert [job.id for job in found] == [twice.id, requeued.id]  # one that cannot be read is not
    await queue.requeue(requeued.id, **ME)
    outcomes = []
    for job in [*found, *found]:
        outcomes.append(await database.write(lambda c, job=job: try_again(c, job, at)))
    assert [job and (job.id, job.reason) for job in outcomes] == [
        *((twice.id, "killed"), None),
        *(None, None),
    ]
    assert [(line["why"], line["by"]) for line in await queue.history(twice.id)][-1] == (
        "its results are to be combined once more",
        "alice@host",
    )
    assert (await queue.history(requeued.id))[-1]["became"] == "queued"
    await database.close()
