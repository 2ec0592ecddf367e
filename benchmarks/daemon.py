"""A running daemon, as a program that speaks to it: what to do, and how long it took."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import psutil

from benchmarks import processes
from benchmarks.figures import seconds
from daemon.control import ControlClient, Endpoint

T = TypeVar("T")
PATIENCE = 120.0
TERMINAL = ("finished", "failed", "stopped", "canceled")


class Daemon:
    """The daemon of `folder`; use it as a context manager."""

    def __init__(self, folder: Path, process: psutil.Process) -> None:
        """It is `process`, or runs below it."""
        self._folder = folder
        self._process = process

    def __enter__(self) -> "Daemon":
        endpoint = wait_for(self._endpoint)
        self.pid = endpoint.pid
        self.client = ControlClient(endpoint)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.client.close()
        processes.end(self.pid)  # here, as strace does not pass on the signal that ends it

    def _endpoint(self) -> Endpoint | None:
        if not self._process.is_running() or self._process.status() == psutil.STATUS_ZOMBIE:
            raise RuntimeError(f"the daemon of {self._folder} ended; see {self._folder}/amore.log")
        endpoint = Endpoint.read(self._folder)
        ours = {process.pid for process in processes.tree(self._process.pid)}
        return endpoint if endpoint is not None and endpoint.pid in ours else None

    def submit(self, runs: Sequence[int], **selection: Any) -> list[str]:
        """Ask for runs to be processed; the ids of their jobs."""
        answer = self.client.call("reprocess", runs=list(runs), **selection)
        return [job["id"] for job in answer["jobs"]]

    def follow(self, jobs: Sequence[str]) -> None:
        """Wait until jobs have ended and are in the run files; RuntimeError if one failed."""
        for item in self.client.stream("follow", jobs=list(jobs)):
            if item["kind"] == "job" and item["state"] in TERMINAL[1:]:
                raise RuntimeError(f"job {item['id']} {item['state']}: {item['reason']}")

    def reprocess(self, runs: Sequence[int], **selection: Any) -> float:
        """Have runs processed; the seconds from asking to the last run file."""
        return seconds(lambda: self.follow(self.submit(runs, **selection)))

    def tree(self) -> list[psutil.Process]:
        """The daemon and all processes that it has started."""
        return processes.tree(self.pid)


def wait_for(find: Callable[[], T | None], pause: float = 0.01) -> T:
    """What `find` gives, once it gives something; TimeoutError after two minutes."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = find()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing from {find} in {PATIENCE:g} s")
        time.sleep(pause)
