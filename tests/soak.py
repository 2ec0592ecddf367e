"""A beamtime at which everything is killed at random while runs arrive, and what that has cost.

make soak [MINUTES=N]
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import h5py
import psutil
from beamtime import Beamtime
from helpers import wait_until
from kill_cost import CONTEXT, Cost, cost_of_folder, cost_of_run, jobs_of, left_of_attempts
from killer import PROGRAMS
from witness import marked

WEIGHTS = {
    "runner": 6,
    "fork server": 3,
    "daemon": 3,
    "combiner": 3,
    "daemon, told to stop": 1,
    "whole machine": 1,
}
"""How often each of them is killed, against the others."""
SLOWER = CONTEXT.replace("def call(run, name):", "def call(run, name):\n    time.sleep(0.15)")
"""The small job, taking its time, so that kills find it at work."""
MOMENT = 0.05
"""Seconds after which to look again for what is to be killed next."""
LONGEST_END = 600.0
"""Seconds that the rest may take when nothing is killed any more."""


class Soak:
    """One beamtime; the same `seed` draws the same kinds of kills and pauses."""

    def __init__(self, root: Path, *, seed: int, kill_every: float, arrive_every: float) -> None:
        self._beamtime = Beamtime(root, root / "example")
        self._random = random.Random(seed)
        self._kill_every = kill_every
        self._arrive_every = arrive_every
        self._daemon: subprocess.Popen[bytes] | None = None
        self._spared: set[str] = set()
        self._memory: list[int] = []
        self._next = "daemon"
        self.kills: Counter[str] = Counter()
        self.runs: dict[int, set[str]] = {}
        make_example(root / "example")

    def run(self, seconds: float) -> Cost:
        """Kill for `seconds`, then let everything come to its end; what it has cost."""
        with marked(self._beamtime) as self._witness:
            self._beamtime.init(SLOWER, source="hdf5", stop_grace=1, local_jobs=2, max_attempts=100)
            self._go_on(seconds)
            begun = time.monotonic()
            cost = self._come_to_an_end()
            self._say(f"the rest took {time.monotonic() - begun:.0f} s")
            for number, data in self.runs.items():
                # In the order in which they were noticed, which is not always that of arrival.
                jobs = [job["data"] for job in jobs_of(self._witness, number)]
                expected = jobs if sorted(jobs) == sorted(data) else sorted(data, reverse=True)
                cost += cost_of_run(self._witness, number, expected)
            cost += cost_of_folder(self._beamtime.folder)
            cost.wrong += self._left_over()
        return cost

    def _go_on(self, seconds: float) -> None:
        begun = time.monotonic()
        acts = {self._kill: self._kill_every, self._arrive: self._arrive_every, self._look: 10.0}
        due = dict.fromkeys(acts, begun)
        while (now := time.monotonic()) < begun + seconds:
            for act, pause in acts.items():
                if now >= due[act]:
                    done = act()
                    due[act] = now + (self._random.expovariate(1 / pause) if done else MOMENT)
            if self._daemon is None or self._daemon.poll() is not None:
                self._daemon = self._beamtime.start_daemon()
            time.sleep(0.01)

    def _arrive(self) -> bool:
        """A new run, or calibrated data of one that has none yet."""
        raw_only = [number for number, data in self.runs.items() if data == {"raw"}]
        if raw_only and self._random.random() < 0.3:
            number, kind = self._random.choice(raw_only), "proc"
        else:
            number, kind = len(self.runs) + 1, "raw"
        self._beamtime.arrive(number, kind)
        self.runs.setdefault(number, set()).add(kind)
        return True

    def _kill(self) -> bool:
        """Kill what is next; False when there is none of it now."""
        kind = self._next
        number = signal.SIGTERM if kind == "daemon, told to stop" else signal.SIGKILL
        processes = self._processes()
        if kind == "whole machine":
            victims = [pid for pids in processes.values() for pid in pids]
        else:
            found = processes.get(kind.partition(",")[0], [])
            victims = [pid for pid in found if kind != "runner" or self._may_be_killed(pid)][:1]
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if victims:
            self.kills[kind] += 1
            (self._next,) = self._random.choices(list(WEIGHTS), list(WEIGHTS.values()))
        return bool(victims)

    def _may_be_killed(self, runner: int) -> bool:
        """Whether its job has lost no runner yet: a variable that loses two is at fault itself."""
        for descriptor in Path(f"/proc/{runner}/fd").glob("*"):
            with suppress(OSError):
                path = descriptor.readlink()
                if path.name.startswith("journal"):
                    job = path.parent.parent.name
                    new = job not in self._spared
                    self._spared.add(job)
                    return new
        return False

    def _processes(self) -> dict[str, list[int]]:
        """The beamtime's processes by what they are, in a random order."""
        found: dict[str, list[int]] = {}
        lines = self._witness.processes()
        for pid, line in lines.items():
            role = next((role for words, role in PROGRAMS.items() if words in line), "other")
            with suppress(psutil.NoSuchProcess):
                if role == "fork server" and lines.get(psutil.Process(pid).ppid()) == line:
                    role = "runner"
                found.setdefault(role, []).append(pid)
        for pids in found.values():
            self._random.shuffle(pids)
        return found

    def _look(self) -> bool:
        """Note how large the daemon is, and say how far it is."""
        with suppress(psutil.NoSuchProcess, AttributeError):
            size = psutil.Process(self._daemon.pid).memory_info().rss  # type: ignore[union-attr]
            self._memory.append(size)
        states = Counter(job[3] for job in self._jobs())
        self._say(f"{len(self.runs)} runs, {self.kills.total()} kills, jobs {dict(states)}")
        return True

    def _jobs(self) -> list[tuple[object, ...]]:
        try:
            return self._beamtime.jobs()
        except Exception as error:  # noqa: BLE001 - it is only for a line of text
            self._say(f"the queue cannot be read now: {error}")
            return []

    def _come_to_an_end(self) -> Cost:
        try:
            self._until(lambda: self._done() and not self._left(), LONGEST_END)
        except AssertionError:
            left = [job for job in self._beamtime.jobs() if job[3] != "finished"]
            return Cost(lost=[f"not done in the end: {left or self._left()}"])
        return Cost()

    def _until(self, probe: Callable[[], bool], seconds: float) -> None:
        """Wait for `probe`, with a daemon."""

        def with_daemon() -> bool:
            if self._daemon is None or self._daemon.poll() is not None:
                self._daemon = self._beamtime.listen()
            return probe()

        wait_until(with_daemon, seconds, 0.2)

    def _done(self) -> bool:
        rows = self._witness.queue("SELECT run, data FROM jobs WHERE combined != 0")
        done = {(row["run"], row["data"]) for row in rows}
        return all((run, kind) in done for run, kinds in self.runs.items() for kind in kinds)

    def _left(self) -> list[str]:
        return left_of_attempts(self._beamtime.folder)

    def _left_over(self) -> list[str]:
        """End the daemon; processes that are there after that."""
        assert self._daemon is not None
        self._daemon.terminate()
        with suppress(AssertionError, subprocess.TimeoutExpired):
            self._daemon.wait(30)
            wait_until(lambda: not self._witness.processes(), 30)
        return [f"still there: {line}" for line in self._witness.processes().values()]

    def _say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    def report(self, cost: Cost, seconds: float) -> list[str]:
        """What happened, and what it has cost."""
        kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(self.kills.items()))
        jobs = sum(len(kinds) for kinds in self.runs.values())
        sizes = [size // 2**20 for size in self._memory] or [0]
        return [
            *cost.lines(),
            f"{len(self.runs)} runs with {jobs} jobs in {seconds:.0f} s, "
            f"{60 * jobs / seconds:.0f} jobs a minute",
            f"{self.kills.total()} kills: {kinds}",
            f"the daemon had {sizes[0]} MB at first, {max(sizes)} MB at most, {sizes[-1]} MB last",
            f"lost {len(cost.lost)}, doubled {len(cost.doubled)}, wrong {len(cost.wrong)}",
        ]


def make_example(root: Path) -> None:
    """The data of a run, for Beamtime.arrive."""
    for kind in ("raw", "proc"):
        folder = root / kind / "r0001"
        folder.mkdir(parents=True)
        with h5py.File(folder / "data.h5", "w") as file:
            file["entry/data"] = range(10)


def main() -> None:
    """Soak, and say what it has cost; exits with 1 when it has cost anything."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("minutes", type=float, nargs="?", default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=2.0, help="mean seconds between kills")
    parser.add_argument("--arrive", type=float, default=1.5, help="mean seconds between arrivals")
    args = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="runtable-soak-"))
    print(f"in {root}, with seed {args.seed}", flush=True)
    soak = Soak(root, seed=args.seed, kill_every=args.every, arrive_every=args.arrive)
    cost = soak.run(60 * args.minutes)
    print(*soak.report(cost, 60 * args.minutes), sep="\n")
    if cost:
        sys.exit(f"see {root}")
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
