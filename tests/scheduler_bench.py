"""A scheduler with a manager that does as it is told: journals are written by the tests."""

import asyncio
import json
import logging
from itertools import count
from types import SimpleNamespace

import pytest
from queue_helpers import eventually

from ctxlib.journal import JournalWriter, file_name
from daemon.backends import Status
from daemon.database import Database
from daemon.events.inbox import Inbox
from daemon.jobs import dispatcher, finisher, trouble
from daemon.jobs.job import Work
from daemon.jobs.outside import Outside
from daemon.jobs.queue import Queue
from daemon.jobs.scheduler import Scheduler
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

    def plan(self, *order, **needs):
        """`needs` are the parts that are left for others, each with those that it needs."""
        later = [{"part": p, "variables": [], "needs": list(n)} for p, n in needs.items()]
        self.say("plan", order=list(order), later=later, variables=[], problems=[])

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
        self.submitted, self.lost, self.cancelled, self.fenced = [], {}, {}, []
        self.play, self.refuse, self.wake = None, None, lambda job: None
        self.unclaimed = False
        self.refuse_on = {}
        self.rooms = lambda backend: 2
        self.host, self.signs = "max-exfl001", "none"
        self.waits, self.place = "", ""

    async def room(self, backend, at_work):
        return self.rooms(backend) - at_work[backend]

    async def by_manager(self, handles):
        return {"": handles} if handles else {}

    async def submit(self, folder):
        backend = json.loads((folder.parent / "job.json").read_bytes())["backend"]
        refused = self.refuse_on.get(backend, self.refuse)
        if refused is not None:
            raise refused
        attempt = Attempt(folder, self.wake)
        self.submitted.append(attempt)
        if not self.unclaimed:
            attempt.claim()
        if self.play is not None:
            self.play(attempt)
        return str(folder)

    async def poll(self, handles):
        why = self.waits if self.signs == "none" else f"on {self.host}"
        running = Status("running", why, signs=self.signs, place=self.place)
        return {
            handle: Status("lost", self.lost[handle]) if handle in self.lost else running
            for handle in handles
        }

    async def cancel(self, handle, reason):
        self.cancelled[handle] = reason
        self.lost[handle] = "it was told to end"

    async def fence(self, handle, reason):
        self.fenced.append(handle)

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
        self.manager.rooms = lambda _: self.settings.local_jobs
        self.settings = SimpleNamespace(
            noncluster_backend="local",
            local_jobs=2,
            max_attempts=3,
            stop_grace=0,
            host_heartbeat_ttl=60,
            worker_stale_grace_seconds=120,
            job_status_ttl=300,
        )
        self.applied, self.combined, self.arrived, self.rows, self.updates = [], [], [], [], []
        self.loads = []
        self.on_apply = self.on_combine = self.on_arrived = None
        self.numbers, self.time, self.looks = count(1), 1000.0, 0
        self.ticks, self.tick = 0.0, 0.0
        self.open()

    def open(self):
        self.db = Database(self.folder / "daemon.sqlite", migrations=MIGRATIONS, wal=True)
        self.inbox = Inbox(self.db)
        self.queue = Queue(
            self.db, log=LOG, now=lambda: self.time, new_id=lambda now: f"j{next(self.numbers)}"
        )
        look = self.queue.waiting_for

        async def waiting_for():
            self.looks += 1
            return await look()

        self.queue.waiting_for = waiting_for
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
            loads=self.loads.append,
            revoke=self.revoke,
            log=LOG,
            now=lambda: self.time,
            clock=self.clock,
        )
        self.scheduler = Scheduler(self.queue, self.inbox, outside, poll_seconds=0.02)
        self.manager.wake = self.scheduler.wake

    def clock(self):
        """A monotonic one; each time that somebody looks, `tick` seconds are over."""
        self.ticks += self.tick
        return self.ticks

    async def looked(self):
        """Have the dispatcher look, to its end, for jobs that may start."""
        for _ in range(2):
            seen = self.looks
            self.scheduler.reconsider()
            await eventually(lambda seen=seen: self.looks > seen)

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
        context = str(self.folder / "context.py")
        where = dict.fromkeys(dispatcher.WHERE) | {"backend": job.backend}
        return {"id": job.id, "run": job.run, "context": context, **where}

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

    async def arrive(self, events):
        for event in events:
            if self.on_arrived:
                self.on_arrived(event)
        self.arrived += [event.run for event in events]

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
