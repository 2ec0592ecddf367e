"""The watching process, with shell scripts for runners."""

import errno
import json
import os
import shutil
import signal
import subprocess
import time

import psutil
import pytest
from helpers import wait_until
from job_helpers import ended, entries, errors, make_job

from ctxlib import cgroup, claim, processes
from ctxlib.attempt import AttemptSupervisor
from ctxlib.journal import JournalWriter
from ctxlib.telling import EXIT_CLOSED, EXIT_JOURNAL


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Runners:
    """Starts one shell script after the other; each begins with journal lines of its own."""

    def __init__(self, *scripts):
        self.scripts = list(scripts)
        self.processes = []

    def __call__(self, attempt_dir, n):
        lines, script = self.scripts[n - 1]
        journal = attempt_dir / f"journal.{n}.jsonl"
        stamped = [{"time": time.time(), **line} for line in lines]
        (attempt_dir / f"lines.{n}").write_text("".join(json.dumps(x) + "\n" for x in stamped))
        command = f"cat {attempt_dir}/lines.{n} >> {journal}; {script}"
        process = subprocess.Popen(["sh", "-c", command], start_new_session=True)
        self.processes.append(process)
        return process.pid

    def wait(self):
        """Wait for the last one and give its wait status; Popen shall not wait as well."""
        process = self.processes[-1]
        _, status = os.waitpid(process.pid, 0)
        process.returncode = 0
        return status


def plan(*order):
    return {"kind": "plan", "order": list(order), "variables": [], "later": [], "problems": []}


def started(variable, timeout=None):
    return {"kind": "started", "variable": variable, "timeout": timeout}


def finished(variable):
    rest = {"summary": {"value": 1}, "data": {"type": "int", "value": 1}, "fragment": None}
    return {"kind": "finished", "variable": variable, **rest}


END = {"kind": "end"}


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def supervise(tmp_path, clock):
    made = []

    def supervise(*scripts, **request):
        runners = Runners(*scripts)
        attempt = make_job(tmp_path, **request)
        supervisor = AttemptSupervisor(attempt, runners, list, "fork", clock=clock)
        made.append((supervisor, runners))
        assert supervisor.begin()
        return supervisor, runners

    yield supervise
    for supervisor, runners in made:
        if supervisor.pid is not None:
            processes.signal_all([supervisor.pid], signal.SIGKILL)
            runners.wait()
        group = cgroup.of_attempt(supervisor.attempt_dir, os.getpid())
        if group is not None:
            group.remove()


def to_the_end(supervisor, runners):
    while supervisor.ended is None:
        supervisor.runner_ended(runners.wait())
    return ended(supervisor.attempt_dir)


def read_journal(supervisor, clock):
    """Look until the runner's first lines have been read; no time passes for the job."""
    journal = supervisor.attempt_dir / "journal.1.jsonl"
    wait_until(journal.exists)
    wait_until(lambda: journal.read_text().count("\n") >= 2)
    clock.now += 1
    supervisor.check()


def test_attempts_leave_no_descriptors_behind(supervise):
    before = psutil.Process().num_fds()
    for job in ("j1", "j2", "j3"):
        to_the_end(*supervise(([END], "exit 0"), job=job))
    assert psutil.Process().num_fds() == before


def test_a_job_that_works(supervise, tmp_path):
    supervisor, runners = supervise(([plan("a"), started("a"), finished("a"), END], "exit 0"))
    assert to_the_end(supervisor, runners) == {"status": "finished", "reason": ""}
    kinds = [e.kind for e in entries(supervisor.attempt_dir) if e.runner == 0]
    assert kinds == ["claimed", "runner", "ended"]
    made = entries(supervisor.attempt_dir, "claimed")[0].fields
    assert made["pid"] == os.getpid()
    assert made["mode"] == "fork"


def test_an_attempt_is_claimed_once(supervise, tmp_path):
    supervisor, runners = supervise(([END], "exit 0"))
    second = AttemptSupervisor(supervisor.attempt_dir, runners, list, "fork")
    assert not second.begin()
    assert len(runners.processes) == 1
    assert claim.read(supervisor.attempt_dir).alive()


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("exit 3", "exit: ended by itself with exit code 3"),
        ("exit 0", "exit: ended by itself with exit code 0"),
        ("kill -SEGV $$", "signal: killed by signal SIGSEGV (Segmentation fault)"),
        ("kill -ABRT $$", "signal: killed by signal SIGABRT (Aborted)"),
        ("kill -40 $$", "signal: killed by signal 40 (Real-time signal 6)"),
    ],
)
def test_a_death_is_its_variables_error_and_the_rest_goes_on(supervise, script, error):
    supervisor, runners = supervise(
        ([plan("a", "b"), started("a")], script),
        ([plan("a", "b"), started("b"), finished("b"), END], "exit 0"),
    )
    assert to_the_end(supervisor, runners)["status"] == "finished"
    assert errors(supervisor.attempt_dir) == {"a": error}


@pytest.mark.parametrize("script", ["kill -KILL $$", "kill -TERM $$", f"exit {EXIT_JOURNAL}"])
def test_what_may_come_from_outside_is_tried_once_more(supervise, script):
    supervisor, runners = supervise(
        ([plan("a", "b"), started("a")], script),
        ([plan("a", "b"), started("a"), finished("a"), END], "exit 0"),
    )
    assert to_the_end(supervisor, runners)["status"] == "finished"
    assert errors(supervisor.attempt_dir) == {}
    died = entries(supervisor.attempt_dir, "died")[0].fields
    assert (died["variable"], died["retried"]) == (None, "a")


def test_what_kills_itself_twice_is_to_blame(supervise):
    kill = ([plan("a", "b"), started("a")], "kill -KILL $$")
    supervisor, runners = supervise(kill, kill, ([plan("a", "b"), END], "exit 0"))
    assert to_the_end(supervisor, runners)["status"] == "finished"
    assert errors(supervisor.attempt_dir) == {"a": "signal: killed by signal SIGKILL (Killed)"}


def test_dying_twice_outside_of_any_variable_fails_the_job(supervise):
    supervisor, runners = supervise(([], "kill -SEGV $$"), ([], "kill -SEGV $$"))
    end = to_the_end(supervisor, runners)
    assert end["status"] == "failed"
    assert "SIGSEGV" in end["reason"]


def test_dying_between_variables_costs_nothing_as_long_as_it_gets_on(supervise):
    order = plan("a", "b", "c")
    supervisor, runners = supervise(
        ([order, started("a"), finished("a")], "kill -SEGV $$"),
        ([order, started("b"), finished("b")], f"exit {EXIT_CLOSED}"),
        ([order, started("c"), finished("c")], "exit 7"),
        ([order], "exit 7"),
        ([order, END], "exit 0"),
    )
    assert to_the_end(supervisor, runners) == {"status": "finished", "reason": ""}
    assert errors(supervisor.attempt_dir) == {}
    reasons = [entry.fields["reason"] for entry in entries(supervisor.attempt_dir, "died")]
    assert reasons[1] == "its files were closed by a variable"


def test_beside_threads_of_others_a_variable_is_tried_once_more(supervise, clock):
    beside = {**started("a"), "threads": 1}
    supervisor, runners = supervise(
        ([plan("a", "b"), beside], "exit 7"),
        ([plan("a", "b"), started("a"), finished("a"), started("b")], "exit 8"),
        ([plan("a", "b"), END], "exit 0"),
    )
    assert to_the_end(supervisor, runners)["status"] == "finished"
    assert errors(supervisor.attempt_dir) == {"b": "exit: ended by itself with exit code 8"}


def test_a_refusal_is_the_end(supervise):
    error = {"kind": "error", "message": "no such run", "traceback": "", "problems": []}
    supervisor, runners = supervise(([error], "exit 1"))
    end = to_the_end(supervisor, runners)
    assert (end["status"], end["reason"]) == ("failed", "no such run")


def test_a_broken_context_is_the_end_with_its_problems(supervise):
    problem = {"message": "bad", "line": 2, "variable": None, "mend": ""}
    error = {"kind": "error", "message": "broken", "traceback": "", "problems": [problem]}
    supervisor, runners = supervise(([error], "exit 1"))
    end = to_the_end(supervisor, runners)
    assert end == {"status": "broken", "reason": "broken", "problems": [problem]}


def test_a_variables_timeout_costs_it_alone(supervise, clock):
    supervisor, runners = supervise(
        ([plan("a", "b"), started("a", timeout=30)], "exec sleep 100"),
        ([plan("a", "b"), END], "exit 0"),
    )
    read_journal(supervisor, clock)
    clock.now += 29
    supervisor.check()
    assert processes.read(supervisor.pid) is not None
    clock.now += 2
    supervisor.check()
    assert to_the_end(supervisor, runners)["status"] == "finished"
    error = "timeout: killed: took longer than its timeout of 30 s"
    assert errors(supervisor.attempt_dir) == {"a": error}


def test_a_result_that_waits_for_room_takes_no_time_of_anybody(supervise, clock):
    waits = {"kind": "progress", "variable": "a", "done": 1, "total": 1, "text": "", "waits": True}
    lines = [plan("a"), started("a", timeout=30), waits]
    supervisor, runners = supervise((lines, "exec sleep 100"), timeout=7200)
    journal = supervisor.attempt_dir / "journal.1.jsonl"
    wait_until(lambda: journal.exists() and journal.read_text().count("\n") >= 3)
    for _ in range(3):
        clock.now += 7000
        supervisor.check()
    assert processes.read(supervisor.pid) is not None
    with journal.open("a") as file:
        for line in (finished("a"), started("b", timeout=10_000)):
            file.write(json.dumps({"time": time.time(), **line}) + "\n")
    clock.now += 7000
    supervisor.check()
    clock.now += 7100
    supervisor.check()
    assert processes.read(supervisor.pid) is not None
    clock.now += 101
    supervisor.check()
    assert to_the_end(supervisor, runners)["reason"] == "the job took longer than 2 h"


def test_after_the_jobs_time_what_is_left_gets_an_error(supervise, clock):
    lines = [plan("a", "b", "c"), started("a"), finished("a"), started("b")]
    supervisor, runners = supervise((lines, "exec sleep 100"), timeout=7200)
    read_journal(supervisor, clock)
    clock.now += 7200
    supervisor.check()
    end = to_the_end(supervisor, runners)
    assert end["status"] == "failed"
    assert end["reason"] == "the job took longer than 2 h"
    assert errors(supervisor.attempt_dir) == {
        "b": "timeout: killed: the job took longer than 2 h",
        "c": "Timeout: not run: the job took longer than 2 h",
    }


def test_what_ignores_sigterm_is_killed_after_a_grace(supervise, clock):
    supervisor, runners = supervise(
        ([plan("a"), started("a", timeout=1)], "trap '' TERM; sleep 100; sleep 100"),
        ([plan("a"), END], "exit 0"),
    )
    read_journal(supervisor, clock)
    clock.now += 2
    supervisor.check()
    assert processes.read(supervisor.pid) is not None
    clock.now += 3
    supervisor.check()
    assert to_the_end(supervisor, runners)["status"] == "finished"


def test_too_much_memory_in_the_whole_tree(supervise, clock):
    # dd holds one block of its size in memory.
    hold = "dd if=/dev/zero bs=60M count=100000 of=/dev/null 2>/dev/null"
    supervisor, runners = supervise(
        ([plan("a"), started("a")], f"{hold} & {hold} & wait"),
        ([plan("a"), END], "exit 0"),
        memory=100 << 20,
    )
    read_journal(supervisor, clock)

    wait_until(lambda: _is_killed(supervisor, clock))
    assert to_the_end(supervisor, runners)["status"] == "finished"
    assert errors(supervisor.attempt_dir) == {"a": "memory: killed: used more than 100 MB"}


def _is_killed(supervisor, clock):
    clock.now += 0.1
    supervisor.check()
    process = processes.read(supervisor.pid)
    return process is None or process.zombie


@pytest.mark.parametrize(("variable", "job"), [(100 << 20, 64 << 30), (100 << 20, None)])
def test_too_much_memory_for_a_variable(supervise, clock, variable, job):
    hold = "dd if=/dev/zero bs=300M count=100000 of=/dev/null 2>/dev/null"
    supervisor, runners = supervise(
        ([plan("a"), {**started("a"), "memory": variable}], hold),
        ([plan("a"), END], "exit 0"),
        memory=job,
    )
    wait_until(lambda: _is_killed(supervisor, clock))
    assert to_the_end(supervisor, runners)["status"] == "finished"
    assert errors(supervisor.attempt_dir) == {"a": "memory: killed: used more than 100 MB"}


def test_the_limit_of_a_variable_ends_with_it(supervise, clock):
    first = {**started("a"), "memory": 1 << 20}
    lines = [plan("a", "b"), first, finished("a"), started("b")]
    supervisor, _ = supervise((lines, "exec sleep 100"), memory=64 << 30)
    read_journal(supervisor, clock)
    clock.now += 1
    supervisor.check()
    assert supervisor.pid is not None
    assert errors(supervisor.attempt_dir) == {}


def test_stopping_says_why(supervise, clock):
    supervisor, runners = supervise(([plan("a"), started("a")], "exec sleep 100"))
    read_journal(supervisor, clock)
    supervisor.cancel("the daemon was asked to")
    assert to_the_end(supervisor, runners) == {
        "status": "stopped",
        "reason": "the daemon was asked to",
    }
    assert errors(supervisor.attempt_dir) == {}
    assert entries(supervisor.attempt_dir, "died")[0].fields["code"] == "stopped"


def test_a_stop_file_is_as_good_as_a_call(supervise, clock):
    supervisor, runners = supervise(([plan("a"), started("a")], "exec sleep 100"))
    read_journal(supervisor, clock)
    (supervisor.attempt_dir / claim.STOP_FILE).write_text("from outside")
    clock.now += 1
    supervisor.check()
    assert to_the_end(supervisor, runners)["reason"] == "from outside"


def test_a_deleted_folder_ends_the_attempt(supervise, clock):
    supervisor, runners = supervise(([plan("a"), started("a")], "exec sleep 100"))
    read_journal(supervisor, clock)
    shutil.rmtree(supervisor.attempt_dir.parent)
    clock.now += 1
    supervisor.check()
    supervisor.runner_ended(runners.wait())
    assert supervisor.ended == "stopped"


def test_no_process_to_be_had_fails_the_job(tmp_path):
    def start(attempt_dir, n):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    supervisor = AttemptSupervisor(make_job(tmp_path), start, list, "fork")
    assert supervisor.begin()
    assert supervisor.ended == "failed"
    assert "temporarily unavailable" in ended(supervisor.attempt_dir)["reason"]


def test_while_the_disk_is_full_the_job_waits(supervise, monkeypatch):
    supervisor, runners = supervise(([plan("a"), END], "exit 0"))
    write = JournalWriter.write

    def full(self, kind, **fields):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(JournalWriter, "write", full)
    supervisor.runner_ended(runners.wait())
    supervisor.check()
    assert supervisor.ended is None
    monkeypatch.setattr(JournalWriter, "write", write)
    supervisor.check()
    assert supervisor.ended == "finished"
    assert ended(supervisor.attempt_dir)["status"] == "finished"


def test_looking_takes_longer_pauses_the_less_there_is_to_see(supervise, clock):
    supervisor, _ = supervise(([plan("a"), started("a")], "exec sleep 100"), memory=64 << 30)
    read_journal(supervisor, clock)
    clock.now += 2
    assert supervisor.check() == pytest.approx(1.0)
    clock.now += 0.25
    assert supervisor.check() == pytest.approx(0.75)
