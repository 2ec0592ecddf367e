"""One listener for several databases: real daemons, killed, moved away and taken out under it."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from beamtime import RUNTABLE, Beamtime, processes_of
from helpers import wait_until
from peer import PEER, needs_peer

from daemon.lock import FolderLock
from daemon.supervisor import shutdown

pytestmark = pytest.mark.system

CONTEXT = """
import os
from damnit_ctx import Variable

@Variable(title="Trains")
def trains(run):
    return len(run.train_ids)

@Variable(title="Sandbox")
def sandbox(run):
    return os.environ.get("SANDBOX", "none")
"""


class Many:
    """A listener's folder beside the folders of its databases, all of one proposal."""

    def __init__(self, beamtime: Beamtime, folder: Path) -> None:
        self.beamtime = beamtime
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self._made: Path | None = None

    def run(self, *arguments: object) -> str:
        """What a command says."""
        return self.beamtime.run(*arguments).stdout

    def database(self, name: str) -> Path:
        """Make a database whose runs are taken only when somebody says that they are there."""
        folder = self.beamtime.path / name
        if self._made is not None:  # a copy is quicker
            return Path(shutil.copytree(self._made, folder))
        self.run("init", folder, "--proposal", 1234)
        (folder / "context.py").write_text(CONTEXT)
        for key, value in {"settle_seconds": 3600, "memory_reserve": "0"}.items():
            self.run("db-config", key, value, "--in", folder)
        self.run("db-config", "proposal_path", self.beamtime.path, "--in", folder)
        self._made = shutil.copytree(folder, self.beamtime.path / "made")
        return folder

    def listen(self) -> None:
        """Start the listener and wait until it answers."""
        with (self.beamtime.path / "listener.out").open("ab") as log:
            self.process = subprocess.Popen(
                [*RUNTABLE, "listen", str(self.folder)], stdout=log, stderr=log
            )
        wait_until(lambda: f'"pid": {self.pid},' in _text(self.folder / "control.json"))

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def end(self, number: signal.Signals) -> None:
        """Send the listener a signal, and wait until it and its daemons are gone."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(20)
        wait_until(lambda: not processes_of(self.beamtime.path, ["daemon.listener.child"]))

    def status(self) -> str:
        """What `status` says of the listener."""
        return self.run("status", self.folder)

    def log(self) -> str:
        """The listener's log."""
        return _text(self.folder / "amore.log")

    def notify(self, run: int) -> None:
        """Let a run arrive, and tell the listener."""
        self.beamtime.arrive(run)
        self.run("notify", self.folder, "--run", run, "--data", "raw")

    def wait_for(self, folder: Path, run: int) -> None:
        """Wait until the database has the run's result."""
        wait_until(lambda: _runs(folder).get(run) == "finished", 40)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _runs(folder: Path) -> dict[int, str]:
    """The state of each run's job, of which there is one, as `jobs` tells."""
    path = folder / "daemon.sqlite"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as database:
        found = database.execute("SELECT run, state FROM jobs ORDER BY position").fetchall()
    assert len({run for run, _ in found}) == len(found), "one event was taken twice"
    return dict(found)


def daemon_of(folder: Path) -> int | None:
    """The process that serves the database."""
    holder = FolderLock(folder).holder()
    return holder.pid if holder is not None and holder.role == "daemon" else None


@pytest.fixture
def many(tmp_path: Path, example_proposal: Path) -> Iterator[Many]:
    """A listener that does not run yet."""
    beamtime = Beamtime(tmp_path, example_proposal)
    folder = tmp_path / "listener"
    folder.mkdir()
    many = Many(beamtime, folder)
    yield many
    if many.process is not None and many.process.poll() is None:
        many.end(signal.SIGTERM)
    beamtime.close()
    for pid in processes_of(beamtime.path):
        os.kill(pid, signal.SIGKILL)


def test_one_event_feeds_every_database_whatever_happens_to_the_others(many: Many) -> None:
    first, second = many.database("first"), many.database("second")
    gone, of_their_own = many.beamtime.path / "gone", many.database("own")
    listener = ("--in", many.folder)
    for folder in (first, second, gone):
        many.run("listener", "add", 1234, folder, *listener)
    many.listen()
    wait_until(lambda: daemon_of(first) and daemon_of(second))
    many.notify(1)
    for folder in (first, second):
        many.wait_for(folder, 1)
    assert f"{gone}: there is no such folder" in many.status()
    assert "waiting events: 1" in many.status()

    # One daemon is killed, and the folder of another one is away, while something happens.
    killed = daemon_of(first)
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    away = second.rename(second.with_name("away"))
    wait_until(lambda: f"{second}: there is no such folder" in many.log())
    many.notify(2)
    many.wait_for(first, 2)
    assert daemon_of(first) != killed
    away.rename(second)
    many.wait_for(second, 2)
    assert f"{first}: its daemon ended with signal Killed" in many.log()

    # A database that has a daemon of its own is left to that, and gets its events all the same.
    own = subprocess.Popen([*RUNTABLE, "listen", str(of_their_own)], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: daemon_of(of_their_own) == own.pid)
        many.run("listener", "add", 1234, of_their_own, *listener)
        many.run("listener", "rm", gone, *listener)
        wait_until(lambda: f"{of_their_own}: left to a daemon on" in many.log())
        many.notify(3)
        for folder in (first, second, of_their_own):
            many.wait_for(folder, 3)
    finally:
        own.terminate()
        own.wait(20)
    wait_until(lambda: daemon_of(of_their_own) not in (own.pid, None))

    # One that turns out to be another proposal's refuses, and says so.
    many.run("proposal", 77, "--in", second)
    many.notify(4)
    many.wait_for(first, 4)
    wait_until(lambda: "refused events: 1; the database is for proposal 77" in many.status())
    assert str(gone) not in many.status()

    # A listener that is killed takes its daemons with it, which lose nothing; nor does it.
    many.end(signal.SIGKILL)
    many.listen()
    many.notify(5)
    for folder in (first, of_their_own):
        many.wait_for(folder, 5)
    events = many.run("events", many.folder)
    assert events.count("handed to 3 of 3") == 1, events
    assert events.count("handed to 2 of 3, 1 refused") == 2, events
    many.end(signal.SIGTERM)
    assert "told to stop by SIGTERM" in _text(first / "amore.log")


@needs_peer
def test_the_published_listener_sees_the_same_databases(many: Many) -> None:
    listener = ("--in", many.folder)
    many.run("listener", "add", 1234, many.beamtime.path, *listener)
    many.run("listener", "add", 99, many.folder / "a", *listener)
    many.run("listener", "add", 99, many.folder / "b", *listener)
    many.run("listener", "config", "static_mode", 0, *listener)
    words = [str(PEER), "-m", "damnit.cli", "listener"]
    told = {
        name: subprocess.run(
            [*words, name], cwd=many.folder, capture_output=True, text=True, timeout=60
        ).stdout
        for name in ("databases", "config")
    }
    assert told["databases"] == many.run("listener", "databases", *listener)
    assert "static_mode=0" in told["config"].splitlines()


def test_under_supervisor_in_dynamic_mode(
    many: Many, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "root/MID/202601"
    home.mkdir(parents=True)
    many.beamtime.path = many.beamtime.path.rename(home / "p001234")
    many.beamtime.folder = many.beamtime.path / "usr/Shared/amore"
    monkeypatch.setenv("EXTRA_DATA_DATA_ROOT", str(tmp_path / "root"))
    official = many.database("usr/Shared/amore")
    listener = ("--in", many.folder)
    many.run("listener", "config", "static_mode", 0, *listener)
    many.run("listener", "config", "sandbox_args", "env SANDBOX=first", *listener)
    try:
        many.run("listen", many.folder, "--daemonize")
        many.beamtime.arrive(1)
        assert "Databases     none" in many.status()
        many.run(*("notify", many.folder, "--run", 1, "--data", "raw", "--proposal", 1234))
        many.wait_for(official, 1)
        assert many.run("listener", "databases", *listener) == f"p1234: {official}\n"
        other = [*RUNTABLE, "notify", str(many.folder), "--proposal", "9", "--run", "1"]
        refused = subprocess.run(
            [*other, "--data", "raw"], capture_output=True, text=True, timeout=60
        )
        assert refused.returncode == 1
        assert "no database of proposal 9 is served here" in refused.stderr
        nine = many.beamtime.path / "nine"
        many.run("listener", "add", 9, nine, *listener)
        assert "1: raw data of run 1, proposal 9" in many.run("events", many.folder, "--retry")
        assert "Dead letters" not in many.status()

        assert many.beamtime.value(1, "sandbox") == "first"
        before = daemon_of(official)
        many.run("listener", "config", "sandbox_args", "env SANDBOX=second", *listener)
        wait_until(lambda: daemon_of(official) not in (before, None))
        many.beamtime.arrive(2)
        many.run(*("notify", many.folder, "--run", 2, "--data", "raw", "--proposal", 1234))
        many.wait_for(official, 2)
        assert many.beamtime.value(2, "sandbox") == "second"

        control = [sys.executable, "-m", "supervisor.supervisorctl", "-c"]
        command = [*control, str(many.folder / "supervisord.conf"), "restart", "damnit"]
        done: Any = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60)
        assert done.stdout == "damnit: stopped\ndamnit: started\n"
        wait_until(lambda: json.loads(_text(official / "daemon.lock") or "{}").get("pid"))
    finally:
        shutdown(many.folder)
    wait_until(lambda: not processes_of(tmp_path))
