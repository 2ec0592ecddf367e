"""Context files in a sandbox of bubblewrap's: the daemon is outside, all of their code inside."""

import os
import shutil
import signal

import pytest
from beamtime import Beamtime
from helpers import wait_until

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        shutil.which("bwrap") is None, reason="bwrap is missing: apt install bubblewrap"
    ),
]

BWRAP = "bwrap --ro-bind / / --dev /dev --proc /proc"
OPEN = "--bind {database} {database}"

CONTEXT = """
import os
import signal
import socket
import time
from pathlib import Path

import numpy as np
from damnit_ctx import Variable

NETWORKS = [name for _, name in socket.if_nameindex()]
HERE = Path(__file__).parent

@Variable(title=f"Networks {os.environ.get('SANDBOX')}")
def networks(run):
    return " ".join(NETWORKS + [name for _, name in socket.if_nameindex()])

@Variable(title="Outside")
def outside(run):
    (HERE.parent / "outside").write_text("")

@Variable(title="Array")
def array(run):
    return np.arange(len(run.train_ids))

@Variable(title="Crash")
def crash(run):
    os.kill(os.getpid(), signal.SIGSEGV)

@Variable(title="Waits")
def waits(run, _crash: "var#crash" = None):
    while not (HERE / "go").exists():
        time.sleep(0.02)
    return 1
"""


def test_a_job_in_a_sandbox(tmp_path, example_proposal):
    beamtime = Beamtime(tmp_path, example_proposal)
    try:
        beamtime.init(CONTEXT)
        _refuses_what_jobs_cannot_run_in(beamtime)
        beamtime.run(
            "db-config", "sandbox_args", f"{BWRAP} {OPEN} --unshare-net --setenv SANDBOX in"
        )
        told = beamtime.run("read-context").stdout
        assert "5 variables, 0 problems" in told
        assert "Networks in" in told
        second = _run_one(beamtime, 1, beamtime.listen())
        beamtime.set(process_start="fresh")
        _run_one(beamtime, 2, second)
    finally:
        beamtime.close()


def _refuses_what_jobs_cannot_run_in(beamtime):
    sandbox = f"{BWRAP} {OPEN} --unshare-pid"
    refused = beamtime.run("db-config", "sandbox_args", sandbox, check=False)
    assert refused.returncode == 1
    assert "sandbox_args: the daemon could not watch its processes" in refused.stderr
    assert beamtime.run("db-config", "sandbox_args").stdout == "\n"


def _run_one(beamtime, run, daemon):
    """One run, in the midst of which `daemon` is killed: the next one takes the job up."""
    beamtime.arrive(run)
    wait_until(lambda: beamtime.attributes(run, "crash"), 30)
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait()
    following = beamtime.listen()
    (beamtime.folder / "go").touch()
    wait_until(lambda: beamtime.value(run, "waits") == 1)
    beamtime.wait_for_jobs(run)
    [job] = [job for job in beamtime.jobs() if job[1] == run]
    assert job[3:5] == ("finished", 1), job
    assert beamtime.value(run, "networks") == "lo lo"
    assert "Read-only file system" in beamtime.attributes(run, "outside")
    assert "Segmentation fault" in beamtime.attributes(run, "crash")
    assert beamtime.value(run, "array") is not None
    assert beamtime.run_file(run).exists()
    (beamtime.folder / "go").unlink()
    return following
