"""One attempt by itself, in real processes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import wait_until
from job_helpers import ended, entries, errors, make_job, times_started, values

from ctxlib import cgroup, claim, processes

LIBRARY = Path(__file__).parents[2]

HEAD = """
import os, time
from pathlib import Path
from damnit_ctx import Variable
"""


@pytest.fixture
def alone():
    """Give a function that starts an attempt by itself, and end what is left of them."""
    started = []

    def alone(attempt, *, cwd=LIBRARY, **environment):
        process = subprocess.Popen(
            [sys.executable, "-m", "ctxlib.alone", str(attempt)],
            cwd=cwd,
            env=os.environ | environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append((process, attempt))
        return process

    yield alone
    for process, attempt in started:
        process.kill()
        process.communicate()
        processes.kill_until_gone(
            lambda a=attempt: processes.started_with(processes.ATTEMPT, str(a))
        )
    cgroup.sweep()


def at_work(attempt):
    """Pids of what variables of the attempt have started."""
    return processes.started_with(processes.ATTEMPT, str(attempt))


def finish(process):
    """Wait for the end; give the exit code and what was said on stderr."""
    said = process.communicate(timeout=60)[1]
    return process.returncode, said


def test_an_attempt_is_run_to_its_end(tmp_path, alone):
    attempt = make_job(
        tmp_path,
        context=HEAD
        + """
@Variable
def number(run):
    os.system("echo from a program")
    return 3

@Variable
def crashing(run, x: "var#number"):
    os.abort()

@Variable
def later(run, x: "var#number"):
    return x + float(os.environ["OMP_NUM_THREADS"])
""",
    )
    assert finish(alone(attempt)) == (0, "")
    assert ended(attempt)["status"] == "finished"
    assert values(attempt) == {"number": 3, "later": 4.0}
    assert "SIGABRT" in errors(attempt)["crashing"]
    assert times_started(attempt) == {"number": 1, "crashing": 1, "later": 1}
    (claimed,) = entries(attempt, "claimed")
    assert claimed.fields["mode"] == "alone"
    log = (tmp_path / "process_logs" / "r1-p1234.out").read_text()
    assert "from a program" in log
    # Once it is done nobody does it again, and that is as good as to have done it.
    assert finish(alone(attempt)) == (0, "")
    assert len(entries(attempt, "claimed")) == 1


def test_who_comes_second_leaves_it_to_the_first(tmp_path, alone):
    context = HEAD + "@Variable\ndef slow(run):\n    time.sleep(60)\n"
    attempt = make_job(tmp_path, context=context)
    first = alone(attempt)
    wait_until(lambda: entries(attempt, "started"))
    code, said = finish(alone(attempt))
    assert code == 75
    assert "is left to the process that has claimed it" in said
    # It looks for the wish to end it.
    (attempt / claim.STOP_FILE).write_text("no beam")
    assert finish(first) == (0, "")
    assert (ended(attempt)["status"], ended(attempt)["reason"]) == ("stopped", "no beam")


def test_a_broken_context_is_said_in_the_journal(tmp_path, alone):
    attempt = make_job(tmp_path, context="1 / 0")
    assert finish(alone(attempt)) == (0, "")
    assert ended(attempt)["status"] == "broken"
    assert "ZeroDivisionError" in ended(attempt)["problems"][0]["message"]
    missing = make_job(tmp_path, "j2", context_path=tmp_path / "nowhere" / "context.py")
    assert finish(alone(missing)) == (0, "")
    assert "cannot be read" in ended(missing)["problems"][0]["message"]


def test_limits_hold(tmp_path, alone):
    context = HEAD + "@Variable\ndef slow(run):\n    time.sleep(60)\n"
    attempt = make_job(tmp_path, context=context, timeout=1.5)
    assert finish(alone(attempt)) == (0, "")
    assert ended(attempt)["reason"] == "the job took longer than 1.5 s"
    assert errors(attempt)["slow"].startswith("timeout: killed")


def test_told_to_end_it_ends_everything_and_says_nothing(tmp_path, alone):
    attempt = make_job(
        tmp_path,
        context=HEAD
        + """
@Variable
def slow(run):
    os.system("setsid sleep 61 & setsid --fork sleep 62; echo begun > begun")
    time.sleep(60)
""",
    )
    process = alone(attempt)
    wait_until((tmp_path / "begun").exists)
    process.send_signal(signal.SIGTERM)
    code, _ = finish(process)
    assert code == 128 + signal.SIGTERM
    assert ended(attempt) is None
    assert at_work(attempt) == []


def test_one_that_is_suspended_goes_on_afterwards(tmp_path, alone):
    context = """
@Variable
def meanwhile(run):
    time.sleep(1.2)  # longer than anybody there waits for a signal
    return 1

@Variable
def later(run, x: "var#meanwhile"):
    while not Path("go").exists():
        time.sleep(0.01)
    return 1
"""
    attempt = make_job(tmp_path, context=HEAD + context)
    process = alone(attempt)
    wait_until(lambda: entries(attempt, "started"))
    process.send_signal(signal.SIGSTOP)
    wait_until(lambda: entries(attempt, "finished"))
    process.send_signal(signal.SIGCONT)
    (tmp_path / "go").touch()
    assert finish(process) == (0, "")
    assert values(attempt)["later"] == 1


def test_a_killed_one_takes_its_runner_with_it(tmp_path, alone):
    context = HEAD + "@Variable\ndef slow(run):\n    time.sleep(60)\n"
    attempt = make_job(tmp_path, context=context)
    process = alone(attempt)
    wait_until(lambda: entries(attempt, "started"))
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL
    wait_until(lambda: not at_work(attempt))


def test_what_cannot_be_begun_is_not_claimed(tmp_path, alone):
    attempt = make_job(tmp_path)
    (attempt.parent / "job.json").write_text("{")
    code, said = finish(alone(attempt))
    assert code == 74
    assert f"{attempt} cannot be run: JSONDecodeError" in said
    assert not claim.exists(attempt)


def test_awkward_names(tmp_path, alone):
    database = tmp_path / "a b'c\"d$e\n%j;é"
    database.mkdir()
    attempt = make_job(database, context=HEAD + "@Variable\ndef one(run):\n    return 1\n")
    assert finish(alone(attempt)) == (0, "")
    assert values(attempt) == {"one": 1}
    assert json.loads((attempt / "claim").read_text())["mode"] == "alone"


def test_a_database_that_is_seen_under_another_path(tmp_path, alone):
    """As on another host: the request has the paths of the one that wrote it."""
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    attempt = make_job(there, context=HEAD + "@Variable\ndef here(run):\n    return os.getcwd()\n")
    there.rename(here)
    assert finish(alone(here / attempt.relative_to(there))) == (0, "")
    assert values(here / attempt.relative_to(there)) == {"here": str(here)}
    assert (here / "process_logs" / "r1-p1234.out").exists()
    assert not there.exists()
