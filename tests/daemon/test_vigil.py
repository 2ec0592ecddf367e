from types import SimpleNamespace

import pytest
from queue_helpers import eventually
from scheduler_bench import whole

from daemon.backends import Status
from daemon.backends.vigil import LONGEST_STEP, Vigil
from daemon.jobs.states import State
from daemon.jobs.vigil import too_silent
from daemon.settings import Settings

HERE, THERE = Status("running", signs="here"), Status("running", "on exfl1", signs="elsewhere")


def test_silence_lasts_as_long_as_the_sign_is_the_same():
    clock = SimpleNamespace(now=100.0)
    vigil = Vigil(lambda: clock.now)
    assert vigil.look("a") == 0
    seen = []
    for sign in "aaabb":
        clock.now += 2
        seen.append(vigil.look(sign))
    assert seen == [2, 4, 6, 0, 2]


def test_who_slept_has_not_seen_anybody_be_silent():
    clock = SimpleNamespace(now=100.0)
    vigil = Vigil(lambda: clock.now)
    vigil.look("a")
    clock.now += 100_000
    assert vigil.look("a") == LONGEST_STEP


@pytest.mark.parametrize(
    ("status", "limit", "words"),
    [
        (HERE, 300, "stale_status: no sign of life for 300 s (setting job_status_ttl)"),
        (THERE, 180, "worker_offline: no sign of life on exfl1 for 180 s (settings host_heart"),
    ],
)
def test_the_limits_are_settings(status, limit, words):
    settings = Settings()
    assert too_silent(status, limit - 0.1, settings) == ""
    assert too_silent(status, limit, settings).startswith(words)
    longer = Settings(job_status_ttl=400, host_heartbeat_ttl=80, worker_stale_grace_seconds=320)
    assert too_silent(status, 399, longer) == ""
    assert too_silent(Status("running"), 1e9, settings) == ""  # a scheduler is asked instead


async def test_a_hanging_attempt_is_ended_before_the_next_one_begins(bench):
    manager = bench.manager
    manager.signs = "here"
    await bench.start()
    job_id = await bench.submit()
    await eventually(lambda: manager.submitted)
    first = manager.submitted[0]
    first.plan("a", "b")
    first.result("a")
    fenced = []
    manager.play = lambda attempt: (fenced.extend(manager.fenced), whole(attempt))
    bench.tick = 2.5
    await eventually(lambda: bench.ticks > 250)
    assert manager.fenced == []
    first.say("started", variable="b")  # a sign: all begins anew
    begun = bench.ticks
    job = await bench.settled(job_id)
    assert bench.ticks - begun > 300
    assert fenced == [str(first.folder)]
    assert (job.state, job.attempt, job.lost) == (State.FINISHED, 2, 1)
    why = [row["why"] for row in await bench.queue.history(job_id)]
    assert sum("stale_status: no sign of life for 300 s" in text for text in why) == 1


async def test_a_host_that_is_gone_costs_its_attempts(bench):
    manager = bench.manager
    manager.signs, bench.settings.max_attempts = "elsewhere", 1
    await bench.start()
    job_id = await bench.submit()
    await eventually(lambda: manager.submitted)
    manager.submitted[0].plan("a")
    bench.tick = 2.5
    job = await bench.settled(job_id)
    assert job.state is State.FAILED
    assert "worker_offline: no sign of life on max-exfl001 for 180 s" in job.reason
    assert bench.rows == [(1, job.reason)]
