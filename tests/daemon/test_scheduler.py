"""The scheduler with a manager that does as it is told: journals are written by the tests."""

import asyncio
import errno
import json
import logging
import sqlite3
from itertools import count
from types import SimpleNamespace

import pytest
from queue_helpers import eventually, make_event

from ctxlib.journal import JournalWriter, file_name
from daemon.backends import ContextBroken, Status
from daemon.database import Database
from daemon.events.inbox import Inbox
from daemon.jobs import dispatcher, finisher, follower, scheduler, trouble
from daemon.jobs.job import Work
from daemon.jobs.outside import Outside
from daemon.jobs.queue import Queue
from daemon.jobs.scheduler import Scheduler
from daemon.jobs.states import State, Who
from daemon.jobs.tables import MIGRATIONS

LOG = logging.getLogger("scheduler")
PROBLEM = {"message": "invalid syntax", "line": 3, "variable": None, "mend": ""}


class Attempt:
    """One attempt, as its processes would write it."""

    def __init__(self, folder, wake):
        self.folder, self.wake, self.journals = folder, wake, {}

    @property
    def job(self):
        return self.folder.parent.name

    def say(self, kind, n=1, **fields):
        if n not in self.journals:
            path = self.folder / file_name(n)
            self.journals[n] = JournalWriter(path, lambda: self.wake(self.job))
        self.journals[n].write(kind, **fields)

    def claim(self):
        (self.folder / "claim").write_text("{}")
        self.say("claimed", 0)

    def plan(self, *order, cluster=()):
        self.say("plan", order=list(order), cluster=list(cluster), variables=[], problems=[])

    def result(self, variable):
        (self.folder / "fragments" / f"{variable}.h5").touch()
        self.say("finished", variable=variable)

    def end(self, status="finished", reason="", **fields):
        self.say("ended", 0, status=status, reason=reason, **fields)
        for journal in self.journals.values():
            journal.close()
        self.journals = {}


class ScriptedManager:
    """Starts nothing; `play(attempt)` is what happens to each that is submitted."""

    def __init__(self):
        self.submitted, self.lost, self.cancelled = [], {}, {}
        self.play, self.refuse, self.wake = None, None, lambda job: None
        self.unclaimed = False

    async def submit(self, folder):
        if self.refuse is not None:
            raise self.refuse
        attempt = Attempt(folder, self.wake)
        self.submitted.append(attempt)
        if not self.unclaimed:
            attempt.claim()
        if self.play is not None:
            self.play(attempt)
        return str(folder)

    async def poll(self, handles):
        return {
            handle: Status("lost", self.lost[handle]) if handle in self.lost else Status("running")
            for handle in handles
        }

    async def cancel(self, handle, reason):
        self.cancelled[handle] = reason

    async def close(self):
        pass

    def jobs(self):
        return [attempt.job for attempt in self.submitted]


def whole(attempt):
    attempt.plan("a", "b")
    for variable in "ab":
        attempt.say("started", variable=variable)
        attempt.result(variable)
    attempt.end()


class Bench:
    """A database folder with a scheduler that can be ended, killed and started again."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "context.py").write_text("")
        self.manager = ScriptedManager()
        self.settings = SimpleNamespace(
            local_jobs=2, memory_reserve="1G", max_attempts=3, stop_grace=0
        )
        self.free = 8 * 2**30
        self.applied, self.combined, self.arrived, self.rows, self.updates = [], [], [], [], []
        self.on_apply = self.on_combine = self.on_arrived = None
        self.numbers, self.time = count(1), 1000.0
        self.open()

    def open(self):
        self.db = Database(self.folder / "daemon.sqlite", migrations=MIGRATIONS, wal=True)
        self.inbox = Inbox(self.db)
        self.queue = Queue(
            self.db, log=LOG, now=lambda: self.time, new_id=lambda now: f"j{next(self.numbers)}"
        )
        outside = Outside(
            manager=self.manager,
            folder=self.folder,
            settings=lambda: self.settings,
            request=self.request,
            apply=self.apply,
            combine=lambda job: self.combine(job),
            arrived=self.arrive,
            explain=self.explain,
            publish=self.updates.append,
            revoke=self.revoke,
            free_memory=lambda: self.free,
            log=LOG,
            now=lambda: self.time,
        )
        self.scheduler = Scheduler(self.queue, self.inbox, outside, poll_seconds=0.02)
        self.manager.wake = self.scheduler.wake

    async def start(self):
        await self.scheduler.start()

    async def stop(self):
        await self.scheduler.stop()
        await self.db.close()

    async def again(self, manager=None):
        """As a new daemon would: nothing is left but the folder."""
        await self.stop()
        self.manager = manager or self.manager
        self.open()
        await self.start()

    def request(self, job):
        return {"id": job.id, "run": job.run, "context": str(self.folder / "context.py")}

    async def apply(self, request, entries):
        if self.on_apply:
            self.on_apply(entries)
        self.applied += [(request["id"], e.kind, e.fields.get("variable")) for e in entries]
        return [{"kind": "result", "job": request["id"]} for e in entries if e.kind == "finished"]

    async def combine(self, job):
        lost = self.on_combine(job) if self.on_combine else ()
        found = (self.folder / "jobs" / job.id).glob("*/fragments/*.h5")
        self.combined.append((job.id, sorted(path.stem for path in found)))
        return lost or ()

    async def arrive(self, event):
        if self.on_arrived:
            self.on_arrived(event)
        self.arrived.append(event.run)

    async def explain(self, proposal, run, text):
        self.rows.append((run, text))

    def revoke(self, attempt):
        try:
            (attempt / "claim").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    async def submit(self, run=1, **extra):
        work = {"proposal": 1234, "run": run, "data": "raw", "source": "test", "live": False}
        (job,) = await self.scheduler.submit([Work(**work | extra)])
        return job.id

    async def settled(self, job_id):
        for _ in range(4000):
            job = await self.queue.get(job_id)
            if job.settled and job.update() in self.updates:  # stored, then told
                return job
            await asyncio.sleep(0.005)
        raise AssertionError(f"{job} has not settled")

    async def in_state(self, job_id, state):
        for _ in range(4000):
            job = await self.queue.get(job_id)
            if job.state is state:
                return job
            await asyncio.sleep(0.005)
        raise AssertionError(f"{job} is not {state}")

    def fragments(self, job_id):
        return sorted(p.stem for p in (self.folder / "jobs" / job_id).glob("*/fragments/*"))

    async def became(self, job_id):
        return [line["became"] for line in await self.queue.history(job_id)]


@pytest.fixture
async def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(trouble, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(finisher, "RETRIES", (0.01, 0.01))
    monkeypatch.setattr(finisher, "CLEAN_SECONDS", 0.0)
    for name in ("LOOK_SECONDS", "IDLE_SECONDS"):
        monkeypatch.setattr(dispatcher, name, 0.02)
    bench = Bench(tmp_path)
    yield bench
    await bench.stop()


# The way of an event


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


async def test_slots_and_memory(bench):
    bench.free = 2**30
    await bench.start()
    ids = [await bench.submit(run) for run in range(4)]
    await eventually(lambda: bench.scheduler.waiting)
    assert "1.0 GB of memory are free, memory_reserve is 1G" in bench.scheduler.waiting
    assert bench.manager.submitted == []
    bench.free *= 4
    await eventually(lambda: len(bench.manager.submitted) == 2)
    await asyncio.sleep(0.1)
    assert bench.manager.jobs() == ids[:2]
    assert bench.scheduler.waiting is None
    whole(bench.manager.submitted[0])
    await eventually(lambda: bench.manager.jobs() == ids[:3])
    bench.settings.local_jobs = 5
    bench.scheduler.reconsider()
    await eventually(lambda: bench.manager.jobs() == ids)


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
        attempt.plan("a", cluster=["c"])
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
    assert (job.inputs, job.cluster) == (("j1",), True)
    await eventually(lambda: not bench.fragments("j1") and not bench.fragments("j1-cluster"))
    told = [(u["id"], u["state"]) for u in bench.updates if u["kind"] == "job"]
    assert told.index(("j1-cluster", "queued")) < told.index(("j1", "finished"))
    assert next(u for u in bench.updates if u.get("id") == "j1-cluster")["after"] == "j1"


async def test_no_cluster_job_after_a_failure(bench):
    def play(attempt):
        attempt.plan("a", cluster=["c"])
        attempt.end("failed", "the run cannot be opened")

    bench.manager.play = play
    await bench.start()
    await bench.settled(await bench.submit())
    assert len(await bench.queue.recent(9)) == 1


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
    bench.manager.play = lambda attempt: (
        whole(attempt)
        if attempt.job == "j2"
        else bench.manager.lost.update({str(attempt.folder): "killed"})
    )
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
    jobs = await bench.queue.recent(9)
    assert {(job.state, job.waiting_reason) for job in jobs} == {(State.QUEUED, text)}
    assert not list(bench.folder.glob("jobs/*/1"))
    last = next(u for u in reversed(bench.updates) if u["kind"] == "job")
    assert (last["id"], last["state"], last["reason"]) == ("j2", "queued", text)
    bench.manager.refuse, bench.manager.play = None, whole
    await asyncio.sleep(0.1)
    assert bench.manager.submitted == []  # nothing has changed yet
    (bench.folder / "helper.py").write_text("x = 1")
    for job in jobs:
        done = await bench.settled(job.id)
        assert (done.state, done.lost, done.waiting_reason) == (State.FINISHED, 0, "")
    assert bench.scheduler.waiting is None
    assert sorted(bench.rows) == [(42, text), (43, text)]


async def test_a_broken_context_is_tried_again_now_and_then(bench):
    bench.manager.refuse = ContextBroken([PROBLEM])
    await bench.start()
    job_id = await bench.submit()
    await eventually(lambda: bench.scheduler.waiting)
    bench.manager.refuse, bench.manager.play = None, whole
    bench.time += dispatcher.HOLD_SECONDS
    assert (await bench.settled(job_id)).state is State.FINISHED


async def test_a_context_that_a_runner_finds_broken(bench):
    bench.manager.play = lambda attempt: attempt.end("broken", "broken", problems=[PROBLEM])
    await bench.start()
    job_id = await bench.submit()
    await eventually(lambda: bench.rows)
    assert bench.scheduler.waiting == "context.py cannot be executed: line 3: invalid syntax"
    bench.manager.play = whole
    (bench.folder / "context.py").write_text("mended = True")
    job = await bench.settled(job_id)
    assert (job.state, job.lost, job.attempt) == (State.FINISHED, 0, 2)


# Trouble


async def test_a_full_disk_is_waited_out(bench, monkeypatch):
    monkeypatch.setattr(dispatcher, "HOLD_SECONDS", 0.0)
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
    assert "not in the run file: the process that makes it died, twice; reprocess" in job.reason
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


# Ends and starts of the daemon


async def test_running_jobs_are_taken_up_again(bench):
    await bench.start()
    job_id = await bench.submit()
    await bench.in_state(job_id, State.RUNNING)
    attempt = bench.manager.submitted[0]
    attempt.plan("a", "b", cluster=["c"])
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
    return await bench.queue.finish(job, State.FINISHED, "", offsets={}, cluster=False)


async def test_killed_after_taking_in_the_end_but_before_saying_so(bench):
    """The offsets may be past the line `ended` while the job still counts as running."""
    await bench.start()
    job_id = await bench.submit()
    job = await bench.in_state(job_id, State.RUNNING)
    await bench.scheduler.stop()
    attempt = bench.manager.submitted[0]
    attempt.plan("a", cluster=["c"])
    attempt.end()
    sizes = {path.name: path.stat().st_size for path in attempt.folder.glob("*.jsonl")}
    await bench.queue.save_offsets(job, sizes)
    await bench.again()
    await bench.settled(job_id)
    assert (await bench.queue.get(f"{job_id}-cluster")).cluster


async def test_stop_gives_running_jobs_their_grace(bench):
    bench.settings.stop_grace = 20
    await bench.start()
    job_id = await bench.submit()
    await bench.in_state(job_id, State.RUNNING)
    stopping = asyncio.create_task(bench.scheduler.stop())
    await asyncio.sleep(0.05)
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


async def test_idle_is_idle(bench, monkeypatch):
    await bench.start()
    bench.manager.play = whole
    await bench.settled(await bench.submit())
    await eventually(lambda: not bench.scheduler.running())
    await asyncio.sleep(0.1)
    calls = []
    write, read = Database.write, Database.read
    monkeypatch.setattr(Database, "write", lambda *a: calls.append("write") or write(*a))
    monkeypatch.setattr(Database, "read", lambda *a: calls.append("read") or read(*a))
    await asyncio.sleep(0.3)
    assert calls == []
