"""What tests of kills look at: functions that were called, processes that live, what was noted."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from beamtime import Beamtime
from helpers import wait_until

from ctxlib.journal import Entry, JournalReader

MARK = "RUNTABLE_TEST_FOLDER"

PRELUDE = """
import ctypes, os, signal, subprocess, time
import numpy as np
from damnit_ctx import Skip, Variable

def call(run, name):
    with open("calls", "a") as file:
        file.write(f"{run} {name}\\n")

def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.01)
"""
"""Head of a context file: `call` notes that a function was called, `wait_for` waits for a file."""

QUICK = (
    PRELUDE
    + """
@Variable(title="First")
def first(run, number: "meta#run_number"):
    call(number, "first")
    return 1

@Variable(title="Array")
def array(run, number: "meta#run_number"):
    call(number, "array")
    return np.arange(100.0)

@Variable(title="Fails")
def fails(run, number: "meta#run_number"):
    call(number, "fails")
    raise ValueError("no such motor")

@Variable(title="Transient", transient=True)
def passing(run, number: "meta#run_number"):
    call(number, "passing")
    return np.ones(100)
"""
)
"""A number, an array, an error and a transient array, of raw data and without delay."""

CALIBRATED = """
@Variable(title="Calibrated", data="proc")
def calibrated(run, number: "meta#run_number", first: "var#first"):
    call(number, "calibrated")
    return first + 0.5
"""
"""What there is of proc data; it needs one of QUICK."""

HELD_UP = (
    QUICK
    + """
@Variable(title="Slow")
def slow(run, number: "meta#run_number", array: "var#array", factor: "var#passing"):
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    call(number, "slow")
    wait_for(f"go-{number}")
    return float((array * factor).sum())

@Variable(title="Last")
def last(run, number: "meta#run_number", slow: "var#slow", first: "var#first"):
    call(number, "last")
    return slow + first
"""
    + CALIBRATED
)
"""A context of which each raw job is held up in `slow` until the file `go-<run>` is there."""


class Witness:
    """Looks at a beamtime whose context begins with PRELUDE."""

    def __init__(self, beamtime: Beamtime) -> None:
        """Look at `beamtime`."""
        self.beamtime = beamtime
        self.folder = beamtime.folder
        self._daemon: subprocess.Popen[bytes] | None = None

    def served(self) -> subprocess.Popen[bytes]:
        """The daemon, which is started when there is none."""
        if self._daemon is None or self._daemon.poll() is not None:
            self._daemon = self.beamtime.listen()
        return self._daemon

    def kill_daemon(self) -> None:
        """`kill -9` the daemon."""
        assert self._daemon is not None
        self._daemon.kill()
        self._daemon.wait()

    def calls(self, run: int) -> Counter[str]:
        """How often each function was called for `run`."""
        try:
            lines = (self.folder / "calls").read_text().splitlines()
        except FileNotFoundError:
            return Counter()
        return Counter(name for number, name in map(str.split, lines) if int(number) == run)

    def has_job(self, job: str) -> bool:
        """Whether the queue knows `job`, also while daemon.sqlite is being made anew."""
        try:
            return bool(self.queue("SELECT id FROM jobs WHERE id = ?", job))
        except sqlite3.OperationalError:
            return False

    def wait_for_call(self, run: int, name: str, times: int = 1) -> None:
        """Wait until the function `name` has been called `times` times for `run`."""
        wait_until(lambda: self.calls(run)[name] >= times, 30)

    def release(self, run: int) -> None:
        """Let the function go on that waits for `go-<run>`."""
        (self.folder / f"go-{run}").touch()

    def job(self, run: int, data: str = "raw") -> str:
        """The id of the only job of `run` for `data`, cluster jobs left out."""
        found = [job for job in self.beamtime.jobs() if job[1:3] == (run, data)]
        (name,) = [job[0] for job in found if not job[0].endswith("-cluster")]
        return str(name)

    def wait_until_done(self, job: str) -> dict[str, Any]:
        """Wait until `job` has ended and its results are in the run file; its row."""
        query = "SELECT * FROM jobs WHERE id = ? AND combined != 0"
        (row,) = wait_until(lambda: self.queue(query, job), 60)
        return row

    def queue(self, query: str, *values: object) -> list[dict[str, Any]]:
        """Rows of daemon.sqlite."""
        uri = f"file:{self.folder / 'daemon.sqlite'}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=20)) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(query, values)]

    def history(self, job: str) -> list[tuple[str, int]]:
        """The states that `job` went through, each with its attempt, checked for sense."""
        rows = self.queue("SELECT * FROM history WHERE job = ? ORDER BY id", job)
        (now,) = self.queue("SELECT state, attempt FROM jobs WHERE id = ?", job)
        changes = [row for row in rows if row["was"] != row["became"]]
        assert [row["was"] for row in changes[1:]] == [row["became"] for row in changes[:-1]]
        assert (changes[-1]["became"], changes[-1]["attempt"]) == (now["state"], now["attempt"])
        assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
        return [(row["became"], row["attempt"]) for row in changes]

    def journal(self, job: str, *kinds: str) -> list[Entry]:
        """All lines of a job's journals, or those of some kinds, in the order of their times."""
        attempts = sorted((self.folder / "jobs" / job).glob("[0-9]*"), key=lambda f: int(f.name))
        lines = [entry for attempt in attempts for entry in JournalReader(attempt).read()]
        return [entry for entry in lines if not kinds or entry.kind in kinds]

    def done_twice(self, job: str) -> list[str]:
        """Variables, but for transient ones, that were begun again after they had ended."""
        plan = self.journal(job, "plan")[-1].fields["variables"]
        transient = {described["name"] for described in plan if described["transient"]}
        done: set[str] = set()
        again = []
        for entry in self.journal(job, "started", "finished", "failed"):
            name = entry.fields["variable"]
            if entry.kind != "started":
                done.add(name)
            elif name in done - transient:
                again.append(name)
        return again

    def processes(self) -> dict[int, str]:
        """The processes that descend from this beamtime's commands, with their command lines.

        They are known by their environment, so that nothing that was started is overlooked.
        """
        mark = f"{MARK}={self.beamtime.path}".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found[int(entry.name)] = command
        return found

    def one(self, *words: str) -> int:
        """The pid of the one process of this beamtime whose command line has all `words`."""
        processes = self.processes()
        (pid,) = [p for p, line in processes.items() if all(word in line for word in words)]
        return pid

    def claimed_by(self, job: str) -> int:
        """The pid of the fork server that has claimed the last attempt of `job`."""
        return int(self.journal(job, "claimed")[-1].fields["pid"])

    def runner(self, job: str) -> int:
        """The pid of the runner that was last begun for `job`."""
        return int(self.journal(job, "runner")[-1].fields["pid"])

    def errors(self, run: int) -> dict[str, tuple[str, str]]:
        """Class and message of the errors in the table, by variable."""
        query = "SELECT name, attributes FROM run_variables WHERE run = ?"
        found = {}
        for name, text in self.beamtime.rows(query, run):
            attributes = json.loads(text or "{}")
            if "error" in attributes:
                found[name] = (attributes["error_cls"], attributes["error"])
        return found


@contextmanager
def marked(beamtime: Beamtime) -> Iterator[Witness]:
    """Look at what happens in `beamtime`, and leave no process behind in the end."""
    witness = Witness(beamtime)
    before = os.environ.get(MARK)
    os.environ[MARK] = str(beamtime.path)
    try:
        yield witness
    finally:
        if before is None:
            del os.environ[MARK]
        else:
            os.environ[MARK] = before
        beamtime.close()
        for pid in witness.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
