import os
import signal
import subprocess
import sys

import pytest
from helpers import wait_until

from ctxlib import processes

# A shell with a child, and a grandchild that has left its session.
FAMILY = "sleep 100 & setsid sh -c 'sleep 100 & wait' & wait"


@pytest.fixture
def family():
    shell = subprocess.Popen(["sh", "-c", FAMILY])
    wait_until(lambda: len(processes.descendants(shell.pid)) == 3)
    yield shell.pid
    processes.signal_all([*processes.descendants(shell.pid), shell.pid], signal.SIGKILL)
    shell.wait()


def test_descendants_are_found_across_sessions(family):
    found = processes.descendants(family)
    sessions = {processes.read(pid).session for pid in found}
    assert len(sessions) == 2


def test_branches_can_be_left_out(family):
    leader = next(p for p in processes.descendants(family) if processes.read(p).session == p)
    rest = processes.descendants(family, without={leader})
    assert len(rest) == 1
    assert leader not in rest


def test_the_scan_finds_what_the_kernel_lists(family, monkeypatch):
    found = []
    for lists in (True, False):
        monkeypatch.setattr(processes, "_kernel_lists_children", lambda lists=lists: lists)
        found.append(set(processes.descendants(family)))
    if not found[0]:
        pytest.skip("this kernel has no /proc/<pid>/task/<tid>/children (CONFIG_PROC_CHILDREN)")
    assert found[0] == found[1]


def test_killing_goes_on_until_nothing_is_left(family):
    assert processes.kill_until_gone(lambda: processes.descendants(family)) == []
    assert processes.descendants(family) == []


def test_a_process_is_known_by_its_start_too():
    me = processes.read(os.getpid())
    assert processes.is_alive(me.pid, me.start)
    assert not processes.is_alive(me.pid, me.start + 1)
    child = subprocess.Popen(["true"])
    wait_until(lambda: processes.read(child.pid).zombie)
    assert not processes.is_alive(child.pid, processes.read(child.pid).start)
    child.wait()
    assert processes.read(child.pid) is None


def test_a_child_ends_with_its_parent():
    program = """
import os, sys, time
from ctxlib import processes
me = os.getpid()
if os.fork() == 0:
    processes.die_with_parent(me)
    print(os.getpid(), flush=True)
    time.sleep(100)
time.sleep(100)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    wait_until(lambda: (p := processes.read(child)) is None or p.zombie)


def test_a_child_whose_parent_has_gone_already_ends_at_once():
    program = "from ctxlib import processes; processes.die_with_parent(1 << 22); print('alive')"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30)
    assert result.returncode == -signal.SIGKILL
    assert result.stdout == b""


def test_signals_to_processes_that_are_gone_do_not_matter():
    processes.signal_all([2**22 - 1], signal.SIGTERM)


def test_what_begins_after_children_is_of_a_later_tick():
    for _ in range(5):
        child = subprocess.Popen(["sleep", "100"])
        try:
            began = processes.after_children()
            assert int(began * processes.CLOCK_TICKS) > processes.read(child.pid).start
        finally:
            child.kill()
            child.wait()


def test_children_are_noticed_also_when_they_have_ended():
    code = """import os, signal
from ctxlib.processes import has_children
print(has_children(), flush=True)
pid = os.fork()
if not pid:
    os._exit(0)
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
print(has_children(), flush=True)
os.waitpid(pid, 0)
print(has_children(), flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "False"]
