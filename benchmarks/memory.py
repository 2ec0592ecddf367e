"""What the processes of one job use, above the same imports in an interpreter that does nothing."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from benchmarks import processes
from benchmarks.daemon import wait_for
from benchmarks.figures import Figure
from benchmarks.proposals import PEER, Proposal, proposal

IMPORTS = "import numpy, h5py, xarray, extra_data"

CONTEXT = """
import pathlib
import time
from damnit_ctx import Variable

@Variable(title="Waits")
def waits(run):
    pathlib.Path({here!r}).touch()
    while pathlib.Path({here!r}).exists():
        time.sleep(0.02)
    return len(run.train_ids)
"""


def measure() -> list[Figure]:
    """PSS of the process tree while a variable is being computed, with and without the imports."""
    with proposal() as place:
        here = place.root / "here"
        theirs = _peer(place, here)
        with place.ours(CONTEXT.format(here=str(here))).daemon() as daemon:
            idle = {process.pid for process in daemon.tree()}
            jobs = daemon.submit([1])
            ours = _while_there(
                here, lambda: [p for p in daemon.tree() if p.pid not in idle and _is_job(p)]
            )
            daemon.follow(jobs)
    bare = processes.bare_interpreter(IMPORTS)
    above = None
    if theirs is not None:
        above = theirs - processes.bare_interpreter(IMPORTS, python=PEER / "python")
    return [
        Figure("a job's process tree", ours, theirs, "MB"),
        Figure("the same above its imports", ours - bare, above, "MB", "60 MB"),
    ]


def _is_job(process: psutil.Process) -> bool:
    return "ctxlib.forkserver" in process.cmdline()


def _peer(place: Proposal, here: Path) -> float | None:
    peer = place.peer(CONTEXT.format(here=str(here)))
    if peer is None:
        return None
    command = (PEER / "damnit", "reprocess", 1, "--direct")
    log = place.root / "peer.out"
    with processes.background(command, cwd=peer.folder, log=log, env=peer.environment) as process:
        size = _while_there(here, lambda: processes.tree(process.pid))
        process.wait()
    return size


def _while_there(here: Path, tree: Callable[[], Sequence[psutil.Process]]) -> float:
    """The memory of `tree` once the variable is at work, which then may go on."""
    wait_for(here.exists)
    time.sleep(0.3)
    size = processes.proportional_size(tree())
    here.unlink()
    return size
