"""A proposal folder for system tests: real programs work on it, as at an experiment."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helpers import wait_until

from ctxlib.processes import ATTEMPT, kill_until_gone
from daemon.cli.connection import connect

RUNTABLE = [sys.executable, "-P", "-m", "daemon.cli"]
STRANGER = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
"""A command that root gives away its privileges by: what others own is closed to it."""


class Beamtime:
    """One proposal with its database folder; runs arrive when a test says so."""

    def __init__(self, root: Path, example: Path, *, proposal: int = 1234) -> None:
        """Lay out proposal `proposal` below `root`; runs are copies of those in `example`."""
        self.proposal = proposal
        self.path = root / f"p{proposal:06d}"
        self.folder = self.path / "usr/Shared/amore"
        self.example = example
        self._daemons: list[subprocess.Popen[bytes]] = []
        for kind in ("raw", "proc"):
            (self.path / kind).mkdir(parents=True)

    def init(self, context: str, **settings: object) -> None:
        """Make the database with this context file, settling quickly unless told otherwise."""
        source = self.path / "context-source.py"
        source.write_text(context)
        self.run("init", self.folder, "--proposal", self.proposal, "--context", source)
        # Slurm's programs may be on this machine, without a cluster behind them.
        self.configure("cluster", "type: local\n")
        self.set(**{"settle_seconds": 0.2, "memory_reserve": "0", **settings})

    def set(self, **settings: object) -> None:
        """Change settings, as `db-config` does, but without a program for each of them."""
        before = os.umask(0o022)  # which a service changes
        try:
            with connect(self.folder) as service:
                for key, value in settings.items():
                    service.call("set", key=key, value=str(value))
        finally:
            os.umask(before)

    def configure(self, name: str, text: str) -> Path:
        """Write the configuration of a backend as YAML."""
        path = self.folder / "backends" / f"{name}.yml"
        path.parent.mkdir(mode=0o770, exist_ok=True)
        path.write_text(text)
        path.chmod(0o640)
        return path

    def run(self, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a `runtable` command in the database folder (or where it is being made)."""
        where = self.folder if self.folder.is_dir() else self.path
        done = subprocess.run(
            [*RUNTABLE, *map(str, arguments)], cwd=where, capture_output=True, text=True, timeout=90
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    def write_context(self, text: str) -> None:
        """Replace the context file as an editor does: whole, under another name first."""
        new = self.folder / ".context.new"
        new.write_text(text)
        new.rename(self.folder / "context.py")

    def listen(self, how: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Start a daemon, by the command `how` if it is given, and wait until it answers."""
        process = self.start_daemon(how)
        wait_until(lambda: self._answers(process))
        return process

    def start_daemon(self, how: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Start a daemon that waits for its turn, as under Supervisor."""
        log = (self.path / "listen.out").open("ab")
        process = subprocess.Popen(
            [*how, *RUNTABLE, "listen", str(self.folder)],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "SUPERVISOR_ENABLED": "1"},
        )
        log.close()
        self._daemons.append(process)
        return process

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        assert process.poll() is None, (self.path / "listen.out").read_text()[-3000:]
        endpoint = self.folder / "control.json"
        return endpoint.exists() and f'"pid": {process.pid},' in endpoint.read_text()

    def arrive(self, run: int, kind: str = "raw") -> Path:
        """Let run `run` appear under raw/ or proc/, whole."""
        folder = self.path / kind / f"r{run:04d}"
        shutil.copytree(self.example / kind / "r0001", folder)
        return folder

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of runs.sqlite, as any reader sees them."""
        uri = f"file:{self.folder / 'runs.sqlite'}?mode=ro"

        def read() -> tuple[list[tuple[Any, ...]]] | None:
            database = sqlite3.connect(uri, uri=True, timeout=20)
            try:
                return (database.execute(query, values).fetchall(),)
            except sqlite3.OperationalError as error:
                # What a killed writer left half done, only the next writer can take back.
                if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
                    raise
                return None
            finally:
                database.close()

        return wait_until(read)[0]

    def value(self, run: int, name: str) -> Any:
        """What the table has for a variable of a run; None while there is nothing."""
        query = "SELECT value FROM run_variables WHERE run = ? AND name = ?"
        return next((value for (value,) in self.rows(query, run, name)), None)

    def attributes(self, run: int, name: str) -> str:
        """The attributes (JSON) of a cell, with its error; "" while there are none."""
        query = "SELECT attributes FROM run_variables WHERE run = ? AND name = ?"
        return next((text or "" for (text,) in self.rows(query, run, name)), "")

    def jobs(self, *states: str) -> list[tuple[Any, ...]]:
        """(id, run, data, state, attempt, reason) of the jobs in `states`, or all."""
        uri = f"file:{self.folder / 'daemon.sqlite'}?mode=ro"
        database = sqlite3.connect(uri, uri=True, timeout=20)
        query = "SELECT id, run, data, state, attempt, reason FROM jobs ORDER BY created"
        try:
            found = database.execute(query).fetchall()
        finally:
            database.close()
        return [job for job in found if not states or job[3] in states]

    def wait_for_jobs(self, number: int) -> None:
        """Wait until `number` jobs have ended and their results are in the run files."""
        uri = f"file:{self.folder / 'daemon.sqlite'}?mode=ro"

        def ended() -> bool:
            database = sqlite3.connect(uri, uri=True, timeout=20)
            query = "SELECT count(*) FROM jobs WHERE combined != 0"
            try:
                return bool(database.execute(query).fetchone()[0] >= number)
            finally:
                database.close()

        wait_until(ended, 60)

    def run_file(self, run: int) -> Path:
        """Where the run's full data is."""
        return self.folder / f"extracted_data/p{self.proposal}_r{run}.h5"

    def log(self) -> str:
        """The daemon's log so far."""
        path = self.folder / "amore.log"
        return path.read_text() if path.exists() else ""

    def close(self) -> None:
        """End the daemons that this started, and what they left running."""
        for process in self._daemons:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        # Programs that jobs have started do not end with them: the next daemon would see to those.
        kill_until_gone(lambda: [*processes_of(self.folder), *programs_of(self.folder)])


def programs_of(folder: Path) -> list[int]:
    """The programs that jobs of `folder` have started."""
    wanted = os.fsencode(f"{ATTEMPT}={folder}/")
    found = []
    for entry in Path("/proc").iterdir():
        try:
            environment = (entry / "environ").read_bytes() if entry.name.isdecimal() else b""
        except OSError:
            continue  # it has just ended, or is somebody else's
        if any(line.startswith(wanted) for line in environment.split(b"\0")):
            found.append(int(entry.name))
    return found


def processes_of(folder: Path, words: Sequence[str] = ()) -> list[int]:
    """Our processes whose command line names `folder` and all `words`."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # it has just ended
        if str(folder) in command and all(word in command for word in words):
            found.append(int(entry.name))
    return found
