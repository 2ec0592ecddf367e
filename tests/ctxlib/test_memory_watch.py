"""Whose memory it is: what the running variable uses, and what others left behind."""

import signal
import subprocess
import sys

import pytest
from helpers import wait_until

from ctxlib import processes
from ctxlib.memory_watch import MemoryWatch

MB = 1 << 20
RUNNER = """
import os, subprocess, sys, time
from pathlib import Path
from ctxlib import cgroup, processes
os.setsid()
processes.adopt_orphans()
if {grouped}:
    cgroup.of_attempt(Path({attempt!r}), os.getppid()).enter()
hold = "x = b'x' * ({left} << 20); print(1, flush=True); import time; time.sleep(1000)"
child = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE)
child.stdout.readline()
time.sleep(0.05)
began = time.clock_gettime(time.CLOCK_BOOTTIME)
x = b"x" * ({own} << 20)
print(began, child.pid, flush=True)
time.sleep(1000)
"""


@pytest.fixture(params=["counted", "watched"])
def runner(request, tmp_path):
    """Start a runner that holds some memory, beside a child that was there before."""
    attempt = tmp_path / "jobs" / "j1" / "1"
    notes = []
    watch = MemoryWatch(attempt, 200 * MB, notes.append)
    grouped = request.param == "counted"
    if grouped and watch.place is None:
        pytest.skip("control groups may not be made here: run it as root of a container of its own")
    started = []

    def start(left, own):
        code = RUNNER.format(attempt=str(attempt), left=left, own=own, grouped=grouped)
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        started.append(process)
        began, child = process.stdout.readline().split()
        return process.pid, float(began), int(child)

    start.watch, start.notes = watch, notes
    yield start
    for process in started:
        processes.signal_all(
            [*processes.descendants(process.pid), process.pid, *watch.members()], signal.SIGKILL
        )
        process.communicate()
    wait_until(lambda: not watch.members())
    watch.close()


def test_a_variable_is_to_blame_for_what_it_uses_itself(runner):
    pid, began, child = runner(left=20, own=200)
    assert runner.watch.too_much(pid, 180 * MB, began)
    assert not runner.watch.too_much(pid, 500 * MB, began)
    assert processes.read(child) is not None
    assert runner.notes == []


def test_what_earlier_ones_left_running_is_ended_instead(runner):
    pid, began, child = runner(left=120, own=60)
    assert not runner.watch.too_much(pid, 150 * MB, began)
    (note,) = runner.notes
    assert note.endswith(
        f"what earlier variables had left running (process {child}): used more than 150 MB"
    )
    wait_until(lambda: processes.read(child) is None or processes.read(child).zombie)
    wait_until(lambda: runner.watch.used(pid) < 120 * MB)
    assert not runner.watch.too_much(pid, 150 * MB, began)
    assert len(runner.notes) == 1
    assert processes.read(pid) is not None


def test_what_it_started_itself_is_its_own(runner):
    pid, _, _ = runner(left=120, own=60)
    assert runner.watch.too_much(pid, 150 * MB, 0.0)
    assert runner.watch.too_much(pid, 150 * MB, None)
