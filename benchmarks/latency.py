"""From an event to the first and to the last summary of a run with ten cheap variables."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.contexts import many_scalars
from benchmarks.daemon import Daemon
from benchmarks.figures import Figure
from benchmarks.proposals import Ours, Proposal, proposal
from benchmarks.watching import Watcher
from ctxlib.journal import JournalReader

NUMBER = 10
NAMES = [f"v{i}" for i in range(NUMBER)]
WARM_RUNS = 9
Pair = tuple[float, float]


def measure() -> list[Figure]:
    """From `notify` and from a run's last file, cold (first run of a daemon) and warm."""
    theirs = _peer()
    figures: list[Figure] = []
    for what, notify in (("notify", True), ("last file", False)):
        cold, warm = _ours(notify)
        for how, pair in (("cold", cold), ("warm", warm)):
            goal = "150 ms" if how == "warm" else ""
            head = f"{what} to"
            figures.append(Figure(f"{head} first summary, {how}", pair[0], theirs[0], "ms", goal))
            figures.append(Figure(f"{head} last of ten, {how}", pair[1], theirs[1], "ms"))
    figures.append(Figure("variable's end to visible", _visible(), None, "ms", "50 ms"))
    return figures


def _ours(notify: bool) -> tuple[Pair, Pair]:
    """Milliseconds to the first and the last summary: of a daemon's first run, and later."""
    runs = range(1, WARM_RUNS + 2)
    with proposal(runs if notify else ()) as place:
        ours = place.ours(many_scalars(NUMBER), settle_seconds=3600 if notify else 0)
        with ours.daemon() as daemon:
            pairs = [_watched(ours.database, run, _happens(place, daemon, run)) for run in runs]
    first, last = zip(*pairs[1:], strict=True)
    return pairs[0], (statistics.median(first), statistics.median(last))


def _happens(place: Proposal, daemon: Daemon, run: int) -> Callable[[], object]:
    """A run that is there is notified; otherwise it comes."""
    if (place.path / f"raw/r{run:04d}").exists():
        return partial(daemon.client.call, "event", run=run, data="raw")
    return partial(place.add, [run])


def _watched(database: Path, run: int, happen: Callable[[], object]) -> Pair:
    with Watcher(database, run, NAMES) as watcher:
        asked = time.time()
        happen()
        watcher.wait()
    # The next run finds the daemon at rest.
    time.sleep(0.3)
    seen = sorted(watcher.seen[name] for name in NAMES)
    return 1000 * (seen[0] - asked), 1000 * (seen[-1] - asked)


def _peer() -> tuple[float | None, float | None]:
    """Its direct mode, from the command's start: it has no event without a Kafka broker."""
    runs = (1, 2, 3)
    with proposal(runs) as place:
        peer = place.peer(many_scalars(NUMBER))
        if peer is None:
            return None, None
        pairs = [_watched(peer.database, run, partial(peer.reprocess, run)) for run in runs]
    return statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs)


def _visible() -> float:
    """Milliseconds from the end of a variable that takes a while to its summary in the table."""
    with proposal([1, 2]) as place:
        ours = place.ours(many_scalars(NUMBER, pause=0.1), settle_seconds=3600)
        with ours.daemon() as daemon:
            _watched(ours.database, 1, _happens(place, daemon, 1))
            with Watcher(ours.database, 2, NAMES) as watcher:
                _happens(place, daemon, 2)()
                watcher.wait()
            ended = _ends(ours)
    return 1000 * statistics.median(watcher.seen[name] - ended[name] for name in NAMES)


def _ends(ours: Ours) -> dict[str, float]:
    """When the variables of the newest job ended, in Unix time."""
    newest = max((ours.folder / "jobs").iterdir(), key=lambda folder: folder.name)
    entries = JournalReader(newest / "1").read()
    return {e.fields["variable"]: e.time for e in entries if e.kind == "finished"}
