"""What one variable does to the process, another does not find there."""

import os
import subprocess
import sys

SETUP = """
import faulthandler, os, resource, signal, sys, warnings
import numpy as np
from ctxlib.surroundings import Surroundings
os.umask(0o022)
faulthandler.enable(2)
limits = [resource.getrlimit(n) for n in (resource.RLIMIT_NOFILE, resource.RLIMIT_STACK)]
home, streams = os.getcwd(), (sys.stdin, sys.stdout, sys.stderr)
before = Surroundings.now()
"""


def run(code, **more):
    done = subprocess.run(
        [sys.executable, "-c", SETUP + code], capture_output=True, text=True, timeout=60, **more
    )
    return done.stdout, done.stderr


def test_all_of_it_is_put_back(tmp_path):
    code = """
os.chdir("/")
os.environ["ADDED"] = "1"
os.environ["PATH"] = "/nowhere"
del os.environ["HOME"]
os.umask(0o777)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGUSR1, lambda *_: None)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
signal.alarm(1)
sys.stdin = sys.stdout = sys.stderr = None
sys.setrecursionlimit(200)
resource.setrlimit(resource.RLIMIT_NOFILE, (10, limits[0][1]))
resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, limits[1][1]))
warnings.simplefilter("error")
np.seterr(all="raise")
changed = before.restore()
assert (os.getcwd(), os.umask(0o022)) == (home, 0o022)
assert "ADDED" not in os.environ and os.environ["HOME"] == "/root-of-test", os.environ
assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
assert (sys.stdin, sys.stdout, sys.stderr) == streams
assert sys.getrecursionlimit() == 1000
now = [resource.getrlimit(n) for n in (resource.RLIMIT_NOFILE, resource.RLIMIT_STACK)]
assert (now, before.confined) == (limits, False), now
warnings.warn("no error any more")
np.float64(1) / 0
print(", ".join(changed))
print(before.restore())
"""
    output, errors = run(code, cwd=tmp_path, env={"HOME": "/root-of-test", "PATH": "/bin"})
    assert output.splitlines() == [
        "the directory, the environment, the umask, signal handlers, a timer, "
        "sys.stdin, sys.stdout or sys.stderr, the recursion limit, resource limits",
        "[]",
    ], errors


def test_a_limit_that_cannot_be_raised_again_is_told(tmp_path):
    code = """
os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NOFILE, (10, 50))
assert before.restore() == ["resource limits"]
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (50, 50)
print(before.confined)
"""
    if os.geteuid() == 0:
        output, errors = run(code, cwd=tmp_path)
    else:
        output, errors = run(code.replace("os.setuid(65534)", ""), cwd=tmp_path)
    assert output == "True\n", errors


def test_a_directory_that_was_removed_is_left(tmp_path):
    gone = tmp_path / "gone"
    code = f"os.mkdir({str(gone)!r}); os.chdir({str(gone)!r}); os.rmdir({str(gone)!r})\n"
    output, errors = run(code + "print(before.restore(), os.getcwd() == home)", cwd=tmp_path)
    assert output == "['the directory'] True\n", errors


def test_crashes_are_still_told_of_when_a_handler_was_taken_away():
    code = """
import ctypes
signal.signal(signal.SIGSEGV, signal.SIG_IGN)
before.restore()
ctypes.string_at(0)
"""
    assert "Fatal Python error: Segmentation fault" in run(code)[1]


def test_plots_that_were_left_open_are_closed():
    code = """
import matplotlib.pyplot as plt
plt.figure(1)
before = Surroundings.now()
plt.figure(2)
assert before.restore() == []
assert plt.get_fignums() == [1, 2]
before.close_figures()
print(plt.get_fignums())
"""
    output, errors = run(code)
    assert output == "[1]\n", errors
