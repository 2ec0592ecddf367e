"""What a daemon uses that has nothing to do, before its first job and after it."""

import time
from collections.abc import Callable, Sequence

import psutil

from benchmarks import processes
from benchmarks.contexts import ONE_SCALAR
from benchmarks.figures import Figure
from benchmarks.proposals import proposal

SECONDS = 10.0
QUIET_SECONDS = 5.0
"""How long to let it come to rest."""


def measure() -> list[Figure]:
    """Memory (PSS of all its processes) and CPU, without and with a fork server.

    The peer's listener does not run without a Kafka broker.
    """
    with proposal() as place, place.ours(ONE_SCALAR).daemon() as daemon:
        before = _use(daemon.tree)
        daemon.reprocess([1])
        after = _use(daemon.tree)
    return [
        Figure("idle daemon, memory", before[0], None, "MB", "100 MB"),
        Figure("idle daemon, CPU", before[1], None, "%", "none"),
        Figure("the same after a run, memory", after[0], None, "MB"),
        Figure("the same after a run, CPU", after[1], None, "%", "none"),
    ]


def _use(tree: Callable[[], Sequence[psutil.Process]]) -> tuple[float, float]:
    """Memory in MB and CPU in percent of a core."""
    time.sleep(QUIET_SECONDS)
    members = tree()
    began = processes.cpu_seconds(members)
    time.sleep(SECONDS)
    used = processes.cpu_seconds(members) - began
    return processes.proportional_size(members), 100 * used / SECONDS
