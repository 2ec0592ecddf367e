"""Kills at every write: of each victim, before each system call that changes one of our files.

    make kills [OPTIONS="[--only VICTIM] [--every N] [--lanes N]"]

A first pass counts the writes of each victim to each kind of file while it does a small job; then
each of them is a moment at which it is killed. After that everything is started again, and the run
must be complete, nothing done twice, every file whole, and the history true.
"""

import argparse
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

from beamtime import Beamtime
from kill_cost import CONTEXT
from kill_ground import VICTIMS, Ground, Outcome, Point
from killer import KINDS


def make_template(root: Path) -> Path:
    """A database folder to copy, in which one job has run already."""
    beamtime = Beamtime(root, root)
    beamtime.init(CONTEXT, source="mock", stop_grace=0, local_jobs=1)
    beamtime.run("reprocess", 9999, "--mock", "--var", "first")
    (beamtime.folder / "calls").unlink()
    return beamtime.folder


def count_points(ground: Ground, victim: str) -> list[Point]:
    """All points of `victim`: the writes that it does when nobody kills it."""
    outcome = ground.kill_at(None, victim)
    assert not outcome.cost, outcome.cost.lines()
    role = VICTIMS[victim].role
    said = [line for line in ground.said() if "call" in line and role in ("", line["role"])]
    numbers = Counter(line["kind"] for line in said)
    return [Point(victim, kind, n) for kind in KINDS for n in range(1, numbers[kind] + 1)]


def spread(points: Sequence[Point], number: int) -> list[Point]:
    """About `number` of `points`: of each victim and kind of file some, evenly."""
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        groups.setdefault((point.victim, point.kind), []).append(point)
    chosen: list[Point] = []
    left = number
    # The small groups first, so that what they do not need goes to the large ones.
    for done, group in enumerate(sorted(groups.values(), key=len)):
        share = min(len(group), max(1, round(left / (len(groups) - done))))
        chosen += [group[(2 * i + 1) * len(group) // (2 * share)] for i in range(share)]
        left -= share
    return sorted(chosen)


def try_all(
    points: Iterable[Point], grounds: Sequence[Ground], told: Callable[[Outcome], None]
) -> list[Outcome]:
    """Kill at each of `points`, in all `grounds` at once; what came of it."""
    left = deque(points)
    outcomes: list[Outcome] = []

    def work(ground: Ground) -> None:
        while left:
            with suppress(IndexError):
                point = left.popleft()
                outcome = ground.kill_at(point, point.victim)
                outcomes.append(outcome)
                told(outcome)

    threads = [threading.Thread(target=work, args=(ground,)) for ground in grounds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def summary(outcomes: Iterable[Outcome]) -> list[str]:
    """A table: how many kills of each victim at each kind of file, and what came of them."""
    rows: dict[tuple[str, str], Counter[str]] = {}
    for outcome in outcomes:
        row = rows.setdefault((outcome.point.victim, outcome.point.kind), Counter())
        row.update(tried=1, killed=outcome.fired)
        cost = outcome.cost
        row.update(lost=bool(cost.lost), doubled=bool(cost.doubled), wrong=bool(cost.wrong))
    names = ("tried", "killed", "lost", "doubled", "wrong")
    total: Counter[str] = sum(rows.values(), Counter())
    lines = [f"{'victim':22}{'writes to':12}" + "".join(f"{name:>9}" for name in names)]
    for (victim, kind), row in [*sorted(rows.items()), (("all", ""), total)]:
        lines.append(f"{victim:22}{kind:12}" + "".join(f"{row[name]:9}" for name in names))
    return lines


def main() -> None:
    """Try all points, or those asked for; exits with 1 when anything was lost, doubled or wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=list(VICTIMS), metavar="VICTIM")
    parser.add_argument("--every", type=int, default=1, help="only each N-th point")
    parser.add_argument("--lanes", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="runtable-kills-"))
    template = make_template(root / "template")
    grounds = [Ground(root / f"{n}", template) for n in range(args.lanes)]
    try:
        points = [p for victim in args.only or VICTIMS for p in count_points(grounds[0], victim)]
        points = points[:: args.every]
        print(f"{len(points)} points in {root}", flush=True)
        outcomes = try_all(points, grounds, Progress(len(points)))
        left = [line for ground in grounds for line in ground.close().lines()]
    finally:
        for ground in grounds:
            ground.abandon()
    print(*summary(outcomes), *left, sep="\n")
    if left or any(outcome.cost for outcome in outcomes):
        sys.exit(f"see {root}")
    shutil.rmtree(root)


class Progress:
    """Says what a kill has cost, and now and then how far it is."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._done = count(1)
        self._begun = time.monotonic()

    def __call__(self, outcome: Outcome) -> None:
        """Take note of `outcome`."""
        for line in outcome.cost.lines():
            print(f"{outcome.point}: {line}", flush=True)
        if (number := next(self._done)) % 50 == 0:
            seconds = time.monotonic() - self._begun
            print(f"{number} of {self._number}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
