"""The queue and the inbox as a state machine: reports, losses, acts and crashes in any order."""

import asyncio
import logging
import tempfile
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from daemon.database import Database
from daemon.events import MigrationEvent
from daemon.events.inbox import Inbox
from daemon.jobs.job import PENDING, Work
from daemon.jobs.parts import Later
from daemon.jobs.queue import Queue
from daemon.jobs.states import ACTIVE, TERMINAL, TRANSITIONS, OldAttempt, Refused, State, Who
from daemon.jobs.tables import MIGRATIONS

MAX_ATTEMPTS = 3
RUNS = st.integers(1, 2)
DATA = st.sampled_from(["raw", "proc"])
REPORTS = (State.RUNNING, State.FINISHED, State.FAILED, State.STOPPED)


class Crash(Exception):
    """The daemon is killed within a transaction."""


class CrashingDatabase(Database):
    """One whose next write can be cut off just before it is on disk."""

    crash = False

    async def write(self, fn):
        def cut_off(connection):
            fn(connection)
            raise Crash

        crash, self.crash = self.crash, False
        return await super().write(cut_off if crash else fn)


class QueueMachine(RuleBasedStateMachine):
    """A daemon's queue, those who report to it, operators, and a killer."""

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory(prefix="queue-", dir=_quick_folder())
        self.now, self.numbers = 1000.0, count(1)
        self.delivered, self.latest, self.expected = set(), {}, 0
        self.ended = []
        self.reported = None
        self.open()

    def open(self):
        path = Path(self.folder.name) / "daemon.sqlite"
        self.db = CrashingDatabase(path, migrations=MIGRATIONS, wal=True)
        self.inbox = Inbox(self.db)
        self.queue = Queue(
            self.db,
            log=logging.getLogger("machine"),
            now=lambda: self.now,
            new_id=lambda _now: f"j{next(self.numbers)}",
        )

    def do(self, step):
        return self.runner.run(step)

    def teardown(self):
        self.do(self.db.close())
        self.runner.close()
        self.folder.cleanup()

    def jobs(self, *states):
        found = self.do(self.queue.in_states(states or list(State)))
        return sorted(found, key=lambda job: int(job.id.partition("-")[0][1:]))

    def pick(self, number, *states):
        """One of the jobs, or of those in `states` if there are any."""
        found = self.jobs(*states) or self.jobs()
        return found[-1 - number % len(found)] if found else None

    # The world

    @rule(step=st.sampled_from([-3600.0, 0.0, 1.0, 10.0]))
    def clock(self, step):
        self.now += step

    @rule(
        source=st.sampled_from(["notify", "filesystem"]), run=RUNS, data=DATA, key=st.integers(1, 3)
    )
    def event(self, source, run, data, key):
        event = MigrationEvent(1234, run, data, source, f"k{key}", self.now)
        if source == "filesystem":
            new = self.latest.get((run, data)) != key
            self.latest[run, data] = key
        else:
            new = (run, data, key) not in self.delivered
            self.delivered.add((run, data, key))
        assert self.do(self.inbox.store(event)) is new
        self.expected += new

    @rule(run=RUNS, data=st.sampled_from(["raw", "proc", "all"]))
    def reprocess(self, run, data):
        if len(self.jobs(State.QUEUED)) < 3:
            work = Work(proposal=1234, run=run, data=data, source="reprocess", live=False)
            self.do(self.queue.create([work]))
        self.claim()

    @rule(repeat=st.booleans())
    def take_in(self, repeat):
        for stored in self.do(self.inbox.pending()):
            job = self.do(self.queue.take(stored))
            before = len(self.jobs())
            self.claim()
            if repeat:  # the answer was lost
                assert self.do(self.queue.take(stored)).id == job.id
                assert len(self.jobs()) == before

    # The daemon and its attempts

    @rule()
    def claim(self):
        waiting = {job.id: job for job in self.jobs(State.QUEUED)}
        job = self.do(self.queue.claim())
        if job is not None:
            assert job.attempt == waiting[job.id].attempt + 1
            live = [j for j in waiting.values() if j.live and self.free(j, waiting)]
            if live:
                assert job.live

    def free(self, job, waiting):
        """Whether nothing at all is in its way: it is alone with its run, and new."""
        others = [j for j in self.jobs() if j.run == job.run and j.id != job.id]
        return job.attempt == 0 and not others and job.id in waiting

    @rule(
        number=st.integers(0, 9),
        to=st.sampled_from(REPORTS),
        behind=st.sampled_from([0, 0, 0, 1, 2]),
        cluster=st.booleans(),
        states=st.sampled_from([ACTIVE, ACTIVE, ()]),
    )
    def report(self, number, to, behind, cluster, states):
        job = self.pick(number, *states)
        if job is not None:
            self.say(job, job.attempt - behind, to, cluster)
            self.reported = (job.id, job.attempt - behind, to, cluster)

    @rule(number=st.integers(0, 9), stop=st.booleans(), to=st.sampled_from(REPORTS[1:]))
    def work_through(self, number, stop, to):
        self.claim()
        for said in (State.RUNNING, to):
            job = self.pick(number, *ACTIVE)
            if job is not None:
                self.say(job, job.attempt, said, cluster=False)
                if stop and job.state in ACTIVE:
                    self.act(number, "stop", force=False, states=ACTIVE)
        self.combine(number, again=False)

    @precondition(lambda self: self.reported is not None)
    @rule()
    def say_it_again(self):
        job_id, *said = self.reported
        self.say(self.do(self.queue.get(job_id)), *said)

    def say(self, job, attempt, to, cluster):
        spoken = type(job)(**{**vars(job), "attempt": attempt})
        try:
            if to is State.RUNNING:
                became = self.do(self.queue.transition(spoken, to, Who.OWNER, "said"))
                assert became in (State.RUNNING, State.STOP_REQUESTED)
                if job.state is State.STOP_REQUESTED:
                    assert became is State.STOP_REQUESTED  # so it learns of it
            else:
                later = [Later("cluster")] if cluster else []
                self.do(self.queue.finish(spoken, to, "said", offsets={}, later=later))
        except OldAttempt:
            assert attempt != job.attempt
        except Refused:
            assert attempt == job.attempt
            assert job.state not in ACTIVE or to is State.STOPPED
            assert self.do(self.queue.get(job.id)) == job
        else:
            assert attempt == job.attempt
            assert job.state in ACTIVE or job.state is to

    @rule(
        number=st.integers(0, 9),
        behind=st.sampled_from([0, 0, 1]),
        ran=st.sampled_from([None, False, True, "back"]),
        states=st.sampled_from([ACTIVE, ()]),
    )
    def lose(self, number, behind, ran, states):
        job = self.pick(number, *states)
        if job is None:
            return
        spoken = type(job)(**{**vars(job), "attempt": job.attempt - behind})
        try:
            if ran is None:
                self.do(self.queue.lose(spoken, "gone", max_attempts=MAX_ATTEMPTS))
            elif ran == "back":
                self.do(self.queue.take_back(spoken, "not now"))
            else:
                self.do(self.queue.give_back(spoken, "not now", ran=ran))
        except Refused:
            assert behind or job.state not in (State.DISPATCHED, State.RUNNING) or ran == "back"
            assert self.do(self.queue.get(job.id)) == job
        else:
            assert not behind
            assert job.state in ACTIVE

    @rule(number=st.integers(0, 9), again=st.booleans())
    def combine(self, number, again):
        job = self.pick(number, *TERMINAL)
        if job is not None and job.state in TERMINAL:
            made = self.do(self.queue.set_combined(job, again=["a"] if again else ()))
            assert (made is not None) is (again and job.combined == PENDING)

    # Operators

    @rule(
        number=st.integers(0, 9),
        act=st.sampled_from(["requeue", "stop", "cancel", "fail"]),
        force=st.booleans(),
        states=st.sampled_from([ACTIVE, TERMINAL, ()]),
    )
    def act(self, number, act, force, states):
        job = self.pick(number, *sorted(states))
        if job is None:
            return
        before = self.do(self.queue.history(job.id))
        try:
            more = {"force": force} if act in ("requeue", "fail") else {}
            changed = self.do(getattr(self.queue, act)(job.id, by="me", why=act, **more))
        except Refused:
            assert self.do(self.queue.get(job.id)) == job
            assert self.do(self.queue.history(job.id)) == before
        else:
            news = self.do(self.queue.history(job.id))[len(before) :]
            assert [(row["who"], row["by"], row["why"]) for row in news] == (
                [] if changed.state is job.state else [("ops", "me", act)]
            )

    # The killer

    @rule()
    def killed(self):
        self.do(self.db.close())
        self.open()

    @rule(
        number=st.integers(0, 9),
        what=st.sampled_from(["claim", "finish", "lose", "requeue", "take", "store", "combine"]),
        states=st.sampled_from([ACTIVE, TERMINAL]),
    )
    def killed_within_a_transaction(self, number, what, states):
        job = self.pick(number, *sorted(states))
        pending = self.do(self.inbox.pending())
        event = MigrationEvent(1234, 1, "raw", "notify", "cut off", self.now)
        steps = {"claim": self.queue.claim, "store": lambda: self.inbox.store(event)}
        if pending:
            steps["take"] = lambda: self.queue.take(pending[0])
        if job is not None:
            end = {"offsets": {}, "later": [Later("cluster")]}
            steps |= {
                "finish": lambda: self.queue.finish(job, State.FINISHED, "", **end),
                "lose": lambda: self.queue.lose(job, "gone", max_attempts=1),
                "requeue": lambda: self.queue.requeue(job.id, by="", why="", force=True),
                "combine": lambda: self.queue.set_combined(job, again=["a"]),
            }
        if what not in steps:
            return
        before = self.everything()
        self.db.crash = True
        with pytest.raises((Crash, Refused)):
            self.do(steps[what]())
        self.killed()
        assert self.everything() == before

    def everything(self):
        tables = ("jobs", "attempts", "history", "events")
        return [
            [tuple(row) for row in self.rows(f"SELECT * FROM {table} ORDER BY rowid")]
            for table in tables
        ]

    def rows(self, query):
        return self.do(self.db.read(lambda connection: connection.execute(query).fetchall()))

    # What always holds

    @invariant()
    def nothing_is_lost_or_doubled(self):
        events = self.rows("SELECT * FROM events")
        assert len(events) == self.expected
        jobs = {job.id: job for job in self.jobs()}
        for event in events:
            if event["state"] == "done":
                job = jobs[event["job"]]
                assert (job.run, job.data) == (event["run"], event["data"])
            else:
                assert event["job"] is None
        assert all(job.lost <= MAX_ATTEMPTS for job in jobs.values())

    @invariant()
    def one_at_a_time(self):
        active = self.jobs(*ACTIVE)
        for job in active:
            rivals = [j.data for j in active if j.run == job.run and j.id != job.id]
            assert job.data not in rivals
            assert "all" not in (rivals and (job.data, *rivals))
        attempts = self.rows("SELECT job, number FROM attempts WHERE outcome IS NULL")
        assert sorted(map(tuple, attempts)) == sorted((job.id, job.attempt) for job in active)

    @invariant()
    def the_history_replays_to_the_state(self):
        histories = {}
        for row in self.rows("SELECT * FROM history ORDER BY id"):
            histories.setdefault(row["job"], []).append(row)
        jobs = {job.id: job for job in self.jobs()}
        assert set(histories) == set(jobs)
        for job in jobs.values():
            state, attempt = State.LAUNCHING, 0
            for row in histories[job.id]:
                was, became = State(row["was"]), State(row["became"])
                assert was is state
                if was is not became:  # else a remark
                    assert Who(row["who"]) in TRANSITIONS[was, became]
                attempt += became is State.DISPATCHED
                assert row["attempt"] == attempt
                state = became
            assert (job.state, job.attempt) == (state, attempt)
            assert (job.ended is not None) is (state in TERMINAL)
            assert state in TERMINAL or job.combined == PENDING

    @invariant()
    def what_has_ended_stays_so(self):
        rows = self.rows("SELECT job FROM history WHERE who = 'ops' AND became = 'queued'")
        requeued = [row["job"] for row in rows]
        jobs = {job.id: job for job in self.jobs()}
        for before, times in self.ended:
            job = jobs[before.id]
            if requeued.count(job.id) == times:
                same = (before.state, before.ended, before.attempt)
                assert (job.state, job.ended, job.attempt) == same
        ended = [job for job in jobs.values() if job.state in TERMINAL]
        self.ended = [(job, requeued.count(job.id)) for job in ended]


def _quick_folder():
    """A file system in memory, where there is one: this is not about disks."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


QueueMachine.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=100,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestQueueMachine = QueueMachine.TestCase
