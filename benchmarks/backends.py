"""Small jobs on each kind of backend; what they run on is real, and made by what tests use."""

import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from benchmarks import processes
from benchmarks.contexts import ONE_MOCK_SCALAR
from benchmarks.daemon import Daemon
from benchmarks.figures import Figure
from benchmarks.proposals import RUNTABLE, Ours, proposal
from ctxlib.journal import JournalReader

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import containers
import pytest
from rest_servers import serve_rest
from slurm_cluster import serve_cluster
from ssh_server import serve_ssh
from web_server import token, web_server

AT_ONCE = 20
"""How many jobs may run at once, on each of them."""
MANY = 50
ALONE = 9
AGENT = "benchmark"


class Places:
    """What jobs may run on, started one after the other and ended with `stack`.

    `configurations` are by name, `environment` is what a daemon needs to reach them.
    """

    def __init__(self, stack: ExitStack, ours: Ours) -> None:
        self._stack = stack
        self._ours = ours
        self.environment: dict[str, str] = {}
        self.configurations: dict[str, Mapping[str, Any]] = {}

    def slurm(self) -> None:
        """Slurm in all three ways."""
        cluster = self._stack.enter_context(serve_cluster())
        self.environment["SLURM_CONF"] = cluster.environment["SLURM_CONF"]
        self.configurations["slurm"] = {"type": "slurm"}
        folders = [Path(self._stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)]
        ssh = self._stack.enter_context(serve_ssh(cluster, folders[0]))
        self.configurations["slurm-ssh"] = {"type": "slurm-ssh", **ssh.options}
        folders[1].chmod(0o755)  # the service runs as nobody
        rest = self._stack.enter_context(serve_rest(cluster, folders[1]))
        self.configurations["slurm-rest"] = {"type": "slurm-rest", **rest.options}

    def podman(self) -> None:
        """Containers of podman."""
        self._engine("podman")

    def docker(self) -> None:
        """Containers of docker."""
        self._engine("docker")

    def _engine(self, program: str) -> None:
        engine = self._stack.enter_context(containers.serve_engine(program))
        self.environment |= engine.environment
        self.configurations[program] = {
            "type": "container",
            "engine": program,
            "image": containers.IMAGE,
            "python": sys.executable,
            "volumes": containers.volumes(),
        }

    def agent(self) -> None:
        """Our agent, by way of the web interface."""
        folder = self._ours.folder
        web = self._stack.enter_context(web_server(folder, "--port", "0"))
        command = (*RUNTABLE, "agent", "--server", web.url, "--id", AGENT, "--max-jobs", AT_ONCE)
        secret = {"RUNTABLE_TOKEN": token(folder, "agent", AGENT)}
        log = folder.parent / "agent.out"
        self._stack.enter_context(processes.background(command, cwd=folder, log=log, env=secret))
        self.configurations["agent"] = {"type": "agent"}

    def write(self) -> None:
        """Put the configurations where the daemon finds them."""
        folder = self._ours.folder / "backends"
        folder.mkdir(mode=0o700, exist_ok=True)
        for name, configuration in self.configurations.items():
            path = folder / f"{name}.yml"
            path.touch(0o600)
            path.write_text(yaml.safe_dump(dict(configuration)))


def measure() -> list[Figure]:
    """How many jobs begin per second, and how long one takes from the queue to its start."""
    with proposal() as place, ExitStack() as stack:
        ours = place.ours(ONE_MOCK_SCALAR, local_jobs=AT_ONCE, concurrent_jobs=AT_ONCE)
        places = Places(stack, ours)
        for start in (places.slurm, places.podman, places.docker, places.agent):
            _start(start)
        places.write()
        # They reach the daemon by its environment.
        surroundings = [f"{name}={value}" for name, value in places.environment.items()]
        with ours.daemon("env", *surroundings) as daemon:
            names = ["local", *places.configurations]
            seen = {
                name: (_per_second(daemon, ours, name), _wait(daemon, ours, name)) for name in names
            }
    return [figure for name in names for figure in _figures(name, seen[name], seen["local"])]


def _start(start: Callable[[], None]) -> None:
    try:
        start()
    except pytest.skip.Exception as missing:
        print(f"left out: {missing}", file=sys.stderr)


def _per_second(daemon: Daemon, ours: Ours, backend: str) -> float:
    """Jobs begun per second, from asking for many to the start of the last one."""
    daemon.reprocess([1], mock=True, backend=backend)  # what comes first waits for all to be loaded
    jobs = daemon.submit(range(1, MANY + 1), mock=True, backend=backend)
    daemon.follow(jobs)
    asked = min(_created(ours, job) for job in jobs)
    return MANY / (max(_begun(ours, job) for job in jobs) - asked)


def _wait(daemon: Daemon, ours: Ours, backend: str) -> float:
    """Median of the milliseconds from the queue to the start, of jobs that come alone."""
    waits = []
    for run in range(1, ALONE + 1):
        (job,) = daemon.submit([run], mock=True, backend=backend)
        daemon.follow([job])
        waits.append(_begun(ours, job) - _created(ours, job))
    return 1000 * statistics.median(waits)


def _created(ours: Ours, job: str) -> float:
    database = sqlite3.connect(f"file:{ours.folder / 'daemon.sqlite'}?mode=ro", uri=True)
    try:
        query = "SELECT created FROM jobs WHERE id = ?"
        return float(database.execute(query, (job,)).fetchone()[0])
    finally:
        database.close()


def _begun(ours: Ours, job: str) -> float:
    """When the process that runs the job has taken it."""
    entries = JournalReader(ours.folder / "jobs" / job / "1").read()
    return next(entry.time for entry in entries if entry.kind == "claimed")


def _figures(name: str, own: Sequence[float], local: Sequence[float]) -> list[Figure]:
    """Both, with how many times as many or as long they are as those of jobs on this machine."""
    rate, wait = (f"({mine / here:.3g} x local)" for mine, here in zip(own, local, strict=True))
    return [
        Figure(f"{name}: of {MANY} jobs, begun {rate}", own[0], None, "jobs/s", better="more"),
        Figure(f"{name}: from the queue to the start {wait}", own[1], None, "ms"),
    ]
