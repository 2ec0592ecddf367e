"""Jobs are taken back as long as nobody has begun with them."""

from dataclasses import replace

from queue_helpers import eventually
from scheduler_bench import whole

from daemon.jobs.states import State


async def test_what_nobody_has_begun_with_is_canceled(bench):
    bench.settings.local_jobs = 1
    bench.manager.unclaimed = True
    await bench.start()
    offered, queued = await bench.submit(1), await bench.submit(2)
    await eventually(lambda: bench.manager.submitted)
    for job_id in (queued, offered):
        job = await bench.queue.get(job_id)
        bench.manager.lost[str(bench.folder / "jobs" / job_id / "1")] = "revoked"
        assert await bench.scheduler.take_back(job, "not needed")
    for job_id in (offered, queued):
        job = await bench.settled(job_id)
        assert (job.state, job.reason, job.lost) == (State.CANCELED, "not needed", 0)
    bench.manager.unclaimed, bench.manager.play = False, whole
    assert (await bench.settled(await bench.submit(3))).state is State.FINISHED


async def test_what_somebody_has_begun_with_stays(bench):
    await bench.start()
    job_id = await bench.submit()
    job = await bench.in_state(job_id, State.RUNNING)
    early = replace(job, state=State.DISPATCHED)
    for seen in (early, job):
        assert not await bench.scheduler.take_back(seen, "not needed")
    whole(bench.manager.submitted[0])
    ended = await bench.settled(job_id)
    assert ended.state is State.FINISHED
    assert not await bench.scheduler.take_back(ended, "not needed")
