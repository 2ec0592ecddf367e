"""A run with a hundred variables that return a DataArray each."""

import statistics

from benchmarks.contexts import HUNDRED_ARRAYS
from benchmarks.figures import Figure, median_seconds
from benchmarks.proposals import proposal


def measure() -> list[Figure]:
    """In the daemon, and in the peer's direct mode with its combining."""
    with proposal() as place:
        theirs = None
        peer = place.peer(HUNDRED_ARRAYS)
        if peer is not None:
            peer.reprocess(1)
            theirs = median_seconds(lambda: peer.reprocess(1), 3)
        with place.ours(HUNDRED_ARRAYS).daemon() as daemon:
            daemon.reprocess([1])
            warm = statistics.median(daemon.reprocess([1]) for _ in range(7))
    return [Figure("100 DataArrays, in the daemon", warm, theirs, "s", "0.5 s")]
