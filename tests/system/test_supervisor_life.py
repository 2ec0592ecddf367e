"""The daemon under Supervisor, as at an experiment: started, restarted and killed at work."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from beamtime import RUNTABLE, Beamtime
from helpers import wait_until
from witness import HELD_UP, Witness, marked

from daemon.lock import FolderLock
from daemon.supervisor import shutdown

pytestmark = pytest.mark.system

ONCE = {"first": 1, "array": 1, "fails": 1, "passing": 1, "slow": 1, "last": 1}


@pytest.fixture(scope="module")
def supervised(
    tmp_path_factory: pytest.TempPathFactory, example_proposal: Path
) -> Iterator[Witness]:
    """A folder with a daemon under Supervisor."""
    beamtime = Beamtime(tmp_path_factory.mktemp("supervised"), example_proposal)
    with marked(beamtime) as witness:
        beamtime.init(HELD_UP, stop_grace=0)
        # A helper of the context's that is called like a module which the daemon needs.
        (beamtime.folder / "queue.py").write_text("raise ImportError('not for the daemon')\n")
        beamtime.run("listen", beamtime.folder, "--daemonize")
        yield witness
        supervisor = int((beamtime.folder / "supervisord.pid").read_text())
        os.kill(supervisor, signal.SIGTERM)
        wait_until(lambda: supervisor not in witness.processes(), 30)
        wait_until(lambda: not witness.processes(), 30)


def control(witness: Witness, *words: str) -> str:
    """What `supervisorctl` says from another directory."""
    conf = witness.folder / "supervisord.conf"
    command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(conf), *words]
    done = subprocess.run(
        command, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    return done.stdout + done.stderr


def begin(witness: Witness, run: int) -> str:
    witness.beamtime.arrive(run)
    witness.wait_for_call(run, "slow")
    return witness.job(run)


def finish(witness: Witness, run: int, job: str) -> None:
    """Let the held-up `job` go on, and see that it ends well with nothing done twice."""
    witness.release(run)
    assert witness.wait_until_done(job)["state"] == "finished"
    assert witness.beamtime.value(run, "last") == 4951.0
    assert witness.calls(run) == ONCE
    assert witness.history(job)[-1] == ("finished", 1)


def test_restart_in_the_middle_of_a_run(supervised: Witness) -> None:
    job = begin(supervised, 1)
    assert control(supervised, "restart", "damnit") == "damnit: stopped\ndamnit: started\n"
    finish(supervised, 1, job)


def test_stop_and_start_in_the_middle_of_a_run(supervised: Witness) -> None:
    job = begin(supervised, 2)
    assert control(supervised, "stop", "damnit") == "damnit: stopped\n"
    assert "STOPPED" in control(supervised, "status", "damnit")
    supervised.beamtime.arrive(3)
    supervised.release(3)
    assert control(supervised, "start", "damnit") == "damnit: started\n"
    assert "RUNNING" in control(supervised, "status", "damnit")
    finish(supervised, 2, job)
    wait_until(lambda: supervised.beamtime.value(3, "last") == 4951.0)
    assert supervised.calls(3) == ONCE


def test_a_killed_daemon_comes_back_and_finishes(supervised: Witness) -> None:
    job = begin(supervised, 4)
    pid = int(control(supervised, "pid", "damnit"))
    holder = FolderLock(supervised.folder).holder()
    assert holder is not None
    assert holder.pid == pid
    os.kill(pid, signal.SIGKILL)
    finish(supervised, 4, job)
    assert int(control(supervised, "pid", "damnit")) != pid


def test_daemonizing_again_applies_what_has_changed(supervised: Witness) -> None:
    pid = control(supervised, "pid", "damnit").strip()
    again = supervised.beamtime.run("listen", supervised.folder, "--daemonize")
    assert "runs under Supervisor already" in again.stdout
    assert control(supervised, "pid", "damnit").strip() == pid

    supervised.beamtime.run("db-config", "stop_grace", "7", "--in", supervised.folder)
    again = supervised.beamtime.run("listen", supervised.folder, "--daemonize")
    assert "was restarted" in again.stdout
    assert control(supervised, "pid", "damnit").strip() != pid
    assert "stopwaitsecs = 17" in (supervised.folder / "supervisord.conf").read_text()


def test_daemonizing_again_after_supervisor_was_killed(supervised: Witness) -> None:
    folder = supervised.folder
    os.kill(int((folder / "supervisord.pid").read_text()), signal.SIGKILL)
    wait_until(lambda: FolderLock(folder).holder() is None, 30)
    again = supervised.beamtime.run("listen", folder, "--daemonize")
    assert "runs under Supervisor" in again.stdout
    assert "RUNNING" in control(supervised, "status", "damnit")


def test_a_locale_without_umlauts_is_no_hindrance(tmp_path: Path) -> None:
    folder = tmp_path / "für Übung"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"}

    def run(*arguments: object) -> None:
        command = [*RUNTABLE, *map(str, arguments)]
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr.decode()

    run("init", folder, "--proposal", 1234)
    try:
        run("listen", folder, "--daemonize")
        run("listen", folder, "--daemonize")
        assert "listen '" + str(folder) in (folder / "supervisord.conf").read_text()
    finally:
        shutdown(folder)


def test_files_are_for_the_owner_and_the_group(supervised: Witness) -> None:
    folder = supervised.folder
    ours = {"queue.py", *(f"go-{run}" for run in range(1, 5))}
    for path in folder.rglob("*"):
        if path.name in ours:
            continue  # this test made it
        assert not path.stat().st_mode & stat.S_IRWXO, f"{path} is open to others"
    for name in ("supervisord.conf", "control.json"):
        assert not (folder / name).stat().st_mode & stat.S_IWGRP
    shared = ("runs.sqlite", "daemon.sqlite", "daemon.lock", "amore.log", "context.py")
    for name in (*shared, "extracted_data/p1234_r1.h5", "process_logs/r1-p1234.out"):
        assert (folder / name).stat().st_mode & stat.S_IWGRP, f"{name} is closed to the group"
