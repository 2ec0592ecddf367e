"""One small run, reprocessed: one scalar, and fifteen columns."""

import statistics

from benchmarks.contexts import FIFTEEN_COLUMNS, ONE_SCALAR
from benchmarks.figures import Figure, median_seconds
from benchmarks.proposals import proposal


def measure() -> list[Figure]:
    """With and without a daemon; the peer in its direct mode, with its combining."""
    return [
        *_measure("one scalar", ONE_SCALAR, proc=False, goals=("1.5 s", "0.1 s")),
        *_measure("15 columns", FIFTEEN_COLUMNS, proc=True, goals=("", "0.4 s")),
    ]


def _measure(what: str, context: str, *, proc: bool, goals: tuple[str, str]) -> list[Figure]:
    with proposal(proc=proc) as place:
        theirs = None
        peer = place.peer(context)
        if peer is not None:
            peer.reprocess(1)
            theirs = median_seconds(lambda: peer.reprocess(1), 3)
        ours = place.ours(context)
        ours.command("reprocess", 1)
        cold = median_seconds(lambda: ours.command("reprocess", 1), 3)
        with ours.daemon() as daemon:
            daemon.reprocess([1])
            command = median_seconds(lambda: ours.command("reprocess", 1), 7)
            warm = statistics.median(daemon.reprocess([1]) for _ in range(15))
    return [
        Figure(f"{what}, without a daemon", cold, theirs, "s", goals[0]),
        Figure(f"{what}, the command with a daemon", command, theirs, "s"),
        Figure(f"{what}, in the daemon", warm, theirs, "s", goals[1]),
    ]
