"""The manager for Slurm when Slurm, or we, were away: nothing is lost, and nothing done twice.

A stand-in plays what a real Slurm does only now and then; `test_slurm_manager.py` has a real one.
"""

import itertools
from dataclasses import replace

import pytest
from job_helpers import ended, make_job
from slurm_helpers import slurm_bench, until

from ctxlib import claim
from ctxlib.journal import JournalWriter, file_name
from daemon.backends.slurm.patience import Patience
from daemon.backends.slurm.scheduler import COMMENT, NoAnswer, NotAsked, Partition, SlurmJob

IMPATIENT = Patience(poll=0.05, visible=0.1, vanished=0.3, stop=0.3, retry=0.05, settle=0.1)


class Slurm:
    """A Slurm that begins with nothing by itself.

    `away`: it does not answer; `behind` a machine that cannot be reached;
    `forgets`: it forgets what it is given, without an answer.
    """

    def __init__(self):
        self.away = self.behind = self.forgets = False
        self.list: list[SlurmJob] = []
        self.submissions = []
        self.cancelled = []
        self.numbers = itertools.count(1)

    async def submit(self, submission):
        if self.behind:
            raise NotAsked("the key cannot be read")
        if self.away:
            raise NoAnswer("the controller is away")
        self.submissions.append(submission)
        if self.forgets:
            raise NoAnswer("the controller has just gone")
        self.add(submission)
        return self.list[-1].array

    def add(self, submission):
        array = str(next(self.numbers))
        for words in submission.array.partition("%")[0].split(","):
            first, _, last = words.partition("-")
            for index in range(int(first), int(last or first) + 1):
                batch = submission.comment.removeprefix(COMMENT)
                job = {"batch": batch, "array": array, "index": index, "number": array}
                self.list.append(SlurmJob(**job, state="PENDING"))

    def set(self, state, *places):
        """Have all jobs, or those at `places` of the list, in a state."""
        for place in places or range(len(self.list)):
            self.list[place] = replace(self.list[place], state=state)

    async def jobs(self):
        if self.behind:
            raise NotAsked("the key cannot be read")
        if self.away:
            raise NoAnswer("the controller is away")
        return list(self.list)

    async def ended(self, *place):
        return None

    async def cancel(self, jobs):
        self.cancelled += jobs
        for place, job in enumerate(self.list):
            if (job.array, job.index) in jobs:
                self.set("CANCELLED", place)

    async def partitions(self):
        return [Partition(name="main", up=True, default=True, groups=None)]

    async def groups(self):
        return []

    async def close(self):
        pass


@pytest.fixture
def slurm():
    return Slurm()


def jobs(folder, *names, live=False):
    return [make_job(folder, name, live=live) for name in names]


def bench_of(folder, slurm, **options):
    return slurm_bench(folder, None, scheduler=slurm, **{"patience": IMPATIENT, **options})


def end(attempt):
    """The attempt has run, and ended well."""
    assert claim.make(attempt, "alone")
    journal = JournalWriter(attempt / file_name(0))
    journal.write("ended", status="finished", reason="")
    journal.close()


@pytest.mark.parametrize("how", ["away", "forgets"])
async def test_what_is_canceled_while_slurm_is_away_is_not_submitted(tmp_path, slurm, how):
    attempts = jobs(tmp_path, "j1", "j2", "j3")
    setattr(slurm, how, True)
    async with bench_of(tmp_path, slurm) as bench:
        handles = await bench.submit(attempts)
        await bench.until(handles, lambda status: "the controller" in status.reason)
        slurm.away = True  # so that none is being submitted when they are canceled
        await bench.until(handles, lambda status: "the controller is away" in status.reason)
        before = len(slurm.submissions)
        assert claim.make(attempts[0], "revoked")
        await bench.manager.cancel(handles[2], "not wanted")
        slurm.away = slurm.forgets = False
        await until(lambda: slurm.list)
        # The one between them, and that alone, once.
        assert [job.index for job in slurm.list] == [1]
        assert len(slurm.submissions) == before + 1
        answers = await bench.end([handles[0], handles[2]])
        end(attempts[1])
        slurm.set("COMPLETED")
        await bench.end([handles[1]])
        await bench.tidied()
    assert (answers["j1/1"].state, answers["j1/1"].reason) == ("lost", "nobody had begun with it")
    assert ended(attempts[2]) == {"status": "stopped", "reason": "not wanted"}
    assert slurm.cancelled == []


async def test_a_batch_that_nobody_wants_any_more_is_not_submitted(tmp_path, slurm):
    attempts = jobs(tmp_path, "j1", "j2")
    slurm.forgets = True
    async with bench_of(tmp_path, slurm) as bench:
        handles = await bench.submit(attempts)
        await until(lambda: slurm.submissions)
    # The daemon is killed here, as far as the folders tell.
    for attempt in attempts:
        assert claim.make(attempt, "revoked")
    slurm.forgets = False
    async with bench_of(tmp_path, slurm) as bench:
        assert {status.state for status in (await bench.end(handles)).values()} == {"lost"}
        await bench.tidied()
    assert (slurm.list, len(slurm.submissions)) == ([], 1)


async def test_what_was_never_asked_of_slurm_is_given_up_without_it(tmp_path, slurm):
    attempts = jobs(tmp_path, "j1", "j2")
    slurm.behind = True
    # It is not in the middle of another try when it ends.
    async with bench_of(tmp_path, slurm, patience=replace(IMPATIENT, retry=60.0)) as bench:
        handles = await bench.submit(attempts)
        said = "could not be submitted to Slurm yet: the key cannot be read"
        await bench.until(handles, lambda status: status.reason == said)
        await bench.manager.cancel(handles[0], "not wanted")
        await bench.end(handles[:1])
    async with bench_of(tmp_path, slurm) as bench:  # the next daemon knows it too
        await bench.manager.cancel(handles[1], "not wanted")
        await bench.end(handles[1:])
        await bench.tidied()
    assert [ended(attempt)["reason"] for attempt in attempts] == ["not wanted"] * 2


async def test_what_has_begun_before_its_submission_is_answered_is_not_said_to_wait(
    tmp_path, slurm
):
    (attempt,) = jobs(tmp_path, "j1")
    slurm.forgets = True
    async with bench_of(tmp_path, slurm) as bench:
        handles = await bench.submit([attempt])
        await bench.until(handles, lambda status: "could not be submitted" in status.reason)
        assert claim.make(attempt, "alone")
        said = "Slurm does not answer: the controller has just gone"
        await bench.until(handles, lambda status: status.reason == said)


async def test_what_waits_and_is_canceled_leaves_slurm_at_once_or_after_a_restart(tmp_path, slurm):
    attempts = jobs(tmp_path, "j1", "j2", "j3")
    async with bench_of(tmp_path, slurm) as bench:
        handles = await bench.submit(attempts)
        await bench.until(handles, lambda status: "waits in Slurm" in status.reason)
        assert claim.make(attempts[0], "revoked")
        assert (await bench.end(handles[:1]))["j1/1"].state == "lost"
        assert slurm.cancelled == [("1", 0)]
        slurm.away = True
        assert claim.make(attempts[1], "revoked")
        await bench.until(handles[1:2], lambda status: "is to be cancelled" in status.reason)
    slurm.away = False
    async with bench_of(tmp_path, slurm) as bench:
        # Nobody has to ask about the one that was canceled: its neighbour's batch tells.
        await bench.until(handles[2:], lambda _: slurm.cancelled[1:] == [("1", 1)])
        assert (await bench.end(handles[1:2]))["j2/1"].state == "lost"
    assert [job.state for job in slurm.list] == ["CANCELLED", "CANCELLED", "PENDING"]


async def test_what_an_earlier_attempt_has_left_in_slurm_goes(tmp_path, slurm):
    (first,) = jobs(tmp_path, "j1")
    async with bench_of(tmp_path, slurm) as bench:
        handles = await bench.submit([first])
        await bench.until(handles, lambda status: "waits in Slurm" in status.reason)
    second = first.with_name("2")
    second.mkdir()
    async with bench_of(tmp_path, slurm) as bench:
        handles = await bench.submit([second])
        await bench.until(handles, lambda _: slurm.cancelled == [("1", 0)])
        await bench.until(handles, lambda status: "waits in Slurm" in status.reason)
    assert [job.state for job in slurm.list] == ["CANCELLED", "PENDING"]


async def test_runs_that_arrive_wait_for_no_backfill(tmp_path, slurm):
    names = [f"j{n}" for n in range(6)]
    backfill = jobs(tmp_path, *names)
    live = jobs(tmp_path, "l1", "l2", live=True)
    async with bench_of(tmp_path, slurm, concurrent_jobs=2) as bench:
        handles = await bench.submit(backfill[:4])
        await bench.until(handles, lambda status: "waits in Slurm" in status.reason)
        slurm.set("RUNNING", 0, 1)
        # They wait there for those before them, and the next ones here for these to begin.
        handles += await bench.submit(backfill[4:5])
        await bench.until(handles, lambda _: len(slurm.submissions) == 2)
        handles += await bench.submit(backfill[5:])
        handles += await bench.submit(live)
        await until(lambda: len(slurm.submissions) == 3)
        waits = (await bench.manager.poll(handles))["j5/1"].reason
    assert [list(each.after) for each in slurm.submissions] == [[], ["1"], []]
    assert [each.array for each in slurm.submissions] == ["0-3%2", "0%1", "0-1%2"]
    assert waits == (
        "is submitted to Slurm when those before it have begun: at most 2 run at once "
        "(concurrent_jobs)"
    )


async def test_free_places_are_filled_at_once(tmp_path, slurm):
    """Else all would wait for the longest job of those that run."""
    live = jobs(tmp_path, *(f"l{n}" for n in range(6)), live=True)
    backfill = jobs(tmp_path, *(f"j{n}" for n in range(5)))
    async with bench_of(tmp_path, slurm, concurrent_jobs=2) as bench:
        handles = await bench.submit(live[:1])
        await bench.until(handles, lambda status: "waits in Slurm" in status.reason)
        handles += await bench.submit(live[1:])
        said = "is submitted to Slurm when another one has ended: at most 2 run at once"
        await bench.until(handles[2:], lambda status: said in status.reason)
        slurm.set("RUNNING")
        end(live[1])
        slurm.set("COMPLETED", 1)
        await bench.until(handles[2:3], lambda status: "waits in Slurm" in status.reason)
        # What is done again is chained where the places are taken.
        again = await bench.submit(backfill[:1])
        await bench.until(again, lambda status: "waits in Slurm" in status.reason)
        slurm.set("RUNNING")
        again += await bench.submit(backfill[1:3])
        await bench.until([*handles, *again], lambda _: len(slurm.submissions) == 5)
        await bench.until(again[1:2], lambda status: "waits in Slurm" in status.reason)
    assert [each.array for each in slurm.submissions] == ["0%1"] * 5
    assert [list(each.after) for each in slurm.submissions] == [[]] * 5


async def test_batches_wait_for_nothing_that_slurm_has_forgotten(tmp_path, slurm):
    """It would give out the same number to the batch that waits: for itself, for ever."""
    attempts = jobs(tmp_path, "j1", "j2")
    async with bench_of(tmp_path, slurm, concurrent_jobs=1) as bench:
        handles = await bench.submit(attempts[:1])
        await bench.until(handles, lambda status: "waits in Slurm" in status.reason)
        slurm.set("RUNNING")
        await bench.until(handles, lambda status: not status.reason)
        slurm.list.clear()
        slurm.numbers = itertools.count(1)
        handles += await bench.submit(attempts[1:])
        await until(lambda: len(slurm.submissions) == 2)
        assert list(slurm.submissions[1].after) == []
        # Nobody had begun with the other one: it can be tried again.
        vanished = (await bench.end(handles[:1]))["j1/1"]
    assert (vanished.state, vanished.reason.partition(":")[0]) == ("lost", "vanished")


async def test_what_has_ended_and_slurm_takes_for_running_holds_nobody_up(tmp_path, slurm):
    """As when a controller that was away never hears of an end; others see that end, not we."""
    attempts = jobs(tmp_path, "j1", "j2")
    async with bench_of(tmp_path, slurm, concurrent_jobs=1) as bench:
        handles = await bench.submit(attempts)
        await bench.until(handles, lambda status: "waits in Slurm" in status.reason)
        slurm.set("RUNNING", 0)
        await bench.until(handles[:1], lambda status: not status.reason)
        end(attempts[0])
        await bench.until(handles[1:], lambda _: slurm.cancelled == [("1", 0)])
    assert [job.state for job in slurm.list] == ["CANCELLED", "PENDING"]


async def test_a_second_job_for_an_attempt_that_runs_goes(tmp_path, slurm):
    (attempt,) = jobs(tmp_path, "j1")
    async with bench_of(tmp_path, slurm) as bench:
        handles = await bench.submit([attempt])
        await bench.until(handles, lambda status: "waits in Slurm" in status.reason)
        slurm.add(slurm.submissions[0])
        slurm.set("RUNNING", 1)
        assert claim.make(attempt, "alone")
        await bench.until(handles, lambda status: not status.reason)
        await bench.until(handles, lambda _: bool(slurm.cancelled))
        assert (await bench.manager.poll(handles))["j1/1"].state == "running"
    assert slurm.cancelled == [("1", 0)]
