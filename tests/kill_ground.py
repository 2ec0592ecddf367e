"""A folder in which victims are killed one after the other, and made to end what they began."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psutil
from beamtime import RUNTABLE, Beamtime
from helpers import wait_until
from kill_cost import Cost, cost_of_folder, cost_of_run, jobs_of, left_of_attempts
from killer import Order
from witness import MARK, Witness

from daemon.control import ControlClient, Endpoint, ServiceError


@dataclass(frozen=True)
class Victim:
    """Whose writes count (any process when `role` is ""), and what it does meanwhile."""

    role: str
    doing: str
    everything: bool = False


VICTIMS = {
    "daemon": Victim("daemon", "notified"),
    "starting daemon": Victim("daemon", "restarted"),
    "fork server": Victim("fork server", "notified"),
    "runner": Victim("runner", "notified"),
    "combiner": Victim("combiner", "notified"),
    "combiner, second job": Victim("combiner", "notified again"),
    "reprocess": Victim("reprocess", "reprocessed"),
    "whole machine": Victim("", "notified", everything=True),
}


@dataclass(frozen=True, order=True)
class Point:
    """The moment before write `n` of a victim to files of a kind."""

    victim: str
    kind: str
    n: int


@dataclass
class Outcome:
    """What came of one kill; `fired` says whether the moment came at all."""

    point: Point
    fired: bool = False
    cost: Cost = field(default_factory=Cost)


class Ground:
    """A database folder in which one kill comes after the other, each with a run of its own."""

    def __init__(self, root: Path, template: Path) -> None:
        self.beamtime = Beamtime(root, template)
        shutil.copytree(template, self.beamtime.folder)
        self.witness = Witness(self.beamtime)
        self.folder = self.beamtime.folder
        self._orders = root / "orders"
        self._orders.mkdir()
        self._ids = count(1)
        self._runs = count(1)
        self._killers: list[subprocess.Popen[bytes]] = []
        self._daemon: psutil.Process | None = None
        self._told: set[str] = set()

    # Programs

    def _under_killer(self, *arguments: str) -> psutil.Process | None:
        """Start a command of ours under the killer; None when all has ended again already."""
        tests = Path(__file__).parent
        mark = f"{MARK}={self.beamtime.path}"
        command = [sys.executable, str(tests / "killer.py"), "--leash", str(self.folder)]
        command += [str(self._orders), "/usr/bin/env", mark, *RUNTABLE, *arguments]
        with (self.beamtime.path / "programs.out").open("ab") as output:
            killer = subprocess.Popen(
                command,
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.PIPE,  # the leash
                env={**os.environ, "SUPERVISOR_ENABLED": "1"},
            )
        self._killers.append(killer)
        children: list[psutil.Process] = []

        def begun() -> bool:
            with suppress(psutil.NoSuchProcess):
                children.extend(psutil.Process(killer.pid).children())
            return bool(children) or killer.poll() is not None

        wait_until(begun)
        return children[0] if children else None

    def start(self) -> None:
        """Start a daemon, without waiting for it."""
        self._daemon = self._under_killer("listen", str(self.folder))

    def alive(self) -> bool:
        """Whether the daemon lives."""
        return self._daemon is not None and lives(self._daemon)

    def serve(self) -> None:
        """See to it that a daemon answers; raises AssertionError when it ends by itself."""
        if not self.alive():
            self.start()

        def answers() -> bool:
            assert self.alive(), (self.beamtime.path / "programs.out").read_text()[-3000:]
            return self._answers()

        wait_until(answers)

    def stop(self) -> None:
        """End the daemon as Supervisor does."""
        if self.alive():
            assert self._daemon is not None
            self._daemon.terminate()
            self._daemon.wait(20)

    def close(self) -> Cost:
        """End everything, and say what is left over that should not be."""
        self.serve()
        with suppress(AssertionError):
            wait_until(lambda: not left_of_attempts(self.folder), 10)
        self.stop()
        left = [f"left over: {path}" for path in left_of_attempts(self.folder)]
        with suppress(AssertionError):
            wait_until(lambda: not self.witness.processes(), 10)
        left += [f"still there: {line}" for line in self.witness.processes().values()]
        self.abandon()
        cost = cost_of_folder(self.folder)
        cost.wrong += left
        return cost

    def abandon(self) -> None:
        """End the killers, and with them all that they run."""
        for killer in self._killers:
            killer.kill()
            killer.communicate()

    # What the killer says

    def order(self, point: Point | None) -> None:
        """Have `point` be the next kill; None: nothing is killed, only counted."""
        number = next(self._ids)
        order = Order(number)
        if point is not None:
            victim = VICTIMS[point.victim]
            order = Order(number, victim.role, point.kind, point.n, victim.everything)
        self._order = number
        order.give(self._orders)

    def said(self) -> list[dict[str, Any]]:
        """What the killer has noted since the last order."""
        lines = (self._orders / "log").read_text().splitlines()
        said = [json.loads(line) for line in lines]
        last = next((i for i, line in enumerate(said) if line.get("order") == self._order), None)
        return [] if last is None else said[last + 1 :]

    def fired(self) -> bool:
        """Whether the last order was carried out."""
        return any(line.get("fired") == self._order for line in self.said())

    # What the victims do

    def kill_at(self, point: Point | None, victim: str) -> Outcome:
        """Do what `victim` does, with a kill at `point`, then all that is needed for its end."""
        run = next(self._runs)
        outcome = Outcome(point or Point(victim, "", 0))
        doing = VICTIMS[victim].doing.replace(" ", "_")
        try:
            data = getattr(self, f"_be_{doing}")(run, point)
            outcome.fired = self.fired()
            if point is not None:
                self.order(None)
            self._finish(run, data)
        except AssertionError as error:
            outcome.cost.lost.append(f"run {run} of {self.folder}: {error}")
        else:
            outcome.cost += cost_of_run(self.witness, run, data)
            outcome.cost += self._news_of_folder()
        return outcome

    def _news_of_folder(self) -> Cost:
        """What is wrong with the folder since this kill."""
        cost = cost_of_folder(self.folder)
        cost.wrong = [text for text in cost.wrong if text not in self._told]
        self._told.update(cost.wrong)
        return cost

    def _be_notified(self, run: int, point: Point | None) -> list[str]:
        self.serve()
        self.order(point)
        if self.tell(run, "raw"):
            wait_until(lambda: self.done(run, ["raw"]) or not self.alive(), 60)
        return ["raw"]

    def _be_notified_again(self, run: int, point: Point | None) -> list[str]:
        self._finish(run, ["raw"])
        self.order(point)
        if self.tell(run, "proc"):
            wait_until(lambda: self.done(run, ["raw", "proc"]) or not self.alive(), 60)
        return ["raw", "proc"]

    def _be_restarted(self, run: int, point: Point | None) -> list[str]:
        self.serve()
        assert self.tell(run, "raw")
        assert self._daemon is not None
        self._daemon.kill()
        self._daemon.wait(20)
        self.order(point)
        self.start()
        wait_until(lambda: not self.alive() or self._answers(), 60)
        wait_until(lambda: self.done(run, ["raw"]) or not self.alive(), 60)
        return ["raw"]

    def _be_reprocessed(self, run: int, point: Point | None) -> list[str]:
        self.stop()
        self.order(point)
        command = self._under_killer("reprocess", str(run), "--mock")
        if command is not None:
            command.wait(60)
        # Killed before it had stored its wish, it has promised nothing: an event takes its place.
        return ["all"] if jobs_of(self.witness, run) else ["raw"]

    def _answers(self) -> bool:
        endpoint = Endpoint.read(self.folder)
        return (
            endpoint is not None and self._daemon is not None and endpoint.pid == self._daemon.pid
        )

    def tell(self, run: int, data: str) -> bool:
        """Say that `data` of `run` has arrived, until it is answered; False: the daemon is dead."""
        while self.alive():
            endpoint = Endpoint.read(self.folder)
            assert endpoint is not None
            with closing(ControlClient(endpoint, silence=1.0)) as client, suppress(ServiceError):
                client.call("event", run=run, data=data, key=f"{data} of {run}")
                return True
        return False

    def _finish(self, run: int, data: Sequence[str]) -> None:
        """Start again what was killed, say again what was not answered, and wait for the end."""
        deadline = time.monotonic() + 60
        while not self.alive() or not self.done(run, data):
            assert time.monotonic() < deadline, f"not done: {jobs_of(self.witness, run)}"
            self.serve()
            for kind in {"raw", "proc"}.intersection(data):
                self.tell(run, kind)
            with suppress(AssertionError):
                wait_until(lambda: self.done(run, data) or not self.alive(), 60)

    def done(self, run: int, data: Sequence[str]) -> bool:
        """Whether there are jobs for `data`, and all of `run` have their results in its file."""
        jobs = jobs_of(self.witness, run)
        return len(jobs) >= len(data) and all(job["combined"] for job in jobs)


def lives(process: psutil.Process) -> bool:
    """Whether a process is there and not about to be gone."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
