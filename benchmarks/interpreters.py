"""How many Python interpreters one run costs; strace counts them."""

import re
import shutil
from pathlib import Path

from benchmarks import processes
from benchmarks.contexts import ONE_SCALAR
from benchmarks.figures import Figure
from benchmarks.proposals import RUNTABLE, Proposal, proposal

_STARTED = re.compile(r'execve\("[^"]*/python[0-9.]*", .*\) = 0$', re.MULTILINE)
WARM_RUNS = 5


def measure() -> list[Figure]:
    """In a command without a daemon, in a daemon's first run, and in each of its later runs."""
    if shutil.which("strace") is None:
        print("interpreters: not measured; install strace")
        return []
    with proposal() as place:
        ours = place.ours(ONE_SCALAR)
        command = (*RUNTABLE, "reprocess", 1)
        trace = place.root / "trace"
        processes.run((*_strace(trace), *command), cwd=ours.folder)
        cold = _started(trace)
        theirs = _peer(place)
        trace = place.root / "trace-daemon"
        with ours.daemon(*_strace(trace)) as daemon:
            itself = _started(trace)
            daemon.reprocess([1])
            first = _started(trace) - itself
            for _ in range(WARM_RUNS):
                daemon.reprocess([1])
            warm = (_started(trace) - itself - first) / WARM_RUNS
    return [
        Figure("interpreters, command without a daemon", cold, theirs, ""),
        Figure("interpreters, a daemon's first run", first, theirs, ""),
        Figure("interpreters, each later run", warm, theirs, ""),
    ]


def _peer(place: Proposal) -> int | None:
    peer = place.peer(ONE_SCALAR)
    if peer is None:
        return None
    trace = place.root / "trace-peer"
    peer.command("reprocess", 1, "--direct", wrapper=_strace(trace))
    return _started(trace)


def _strace(trace: Path) -> tuple[object, ...]:
    return ("strace", "-f", "-qq", "-s", "200", "-e", "trace=execve", "-o", trace)


def _started(trace: Path) -> int:
    return len(_STARTED.findall(trace.read_text()))
