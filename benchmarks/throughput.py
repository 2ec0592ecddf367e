"""Many runs of one scalar, two at a time."""

from benchmarks.contexts import ONE_MOCK_SCALAR, ONE_SCALAR
from benchmarks.figures import Figure, seconds
from benchmarks.proposals import proposal

RUNS = 200
PEER_RUNS = 5


def measure() -> list[Figure]:
    """Runs per second in the daemon; the peer takes one after the other in its direct mode."""
    return [
        _measure("reprocessing 200 small runs", ONE_SCALAR, mock=False),
        _measure("reprocessing 200 mock runs", ONE_MOCK_SCALAR, mock=True),
    ]


def _measure(what: str, context: str, *, mock: bool) -> Figure:
    runs = range(1, RUNS + 1)
    with proposal(runs) as place:
        theirs = None
        peer = place.peer(context)
        if peer is not None:
            options = ["--mock"] if mock else []
            took = seconds(lambda: peer.reprocess(*runs[:PEER_RUNS], *options))
            theirs = PEER_RUNS / took
        ours = place.ours(context, local_jobs=2)
        with ours.daemon() as daemon:
            daemon.reprocess([1], mock=mock)
            took = daemon.reprocess(runs, mock=mock)
    return Figure(what, RUNS / took, theirs, "runs/s", "20 runs/s", "more")
