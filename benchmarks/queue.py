"""A long queue: what a claim, an event and a start of the daemon take with it, and its memory."""

import asyncio
import logging
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from benchmarks import processes
from benchmarks.contexts import ONE_SCALAR
from benchmarks.figures import Figure
from benchmarks.proposals import PROPOSAL, proposal
from daemon.database import Database
from daemon.events import MigrationEvent
from daemon.events.inbox import Inbox
from daemon.jobs.job import Work
from daemon.jobs.queue import Queue
from daemon.jobs.states import State
from daemon.jobs.tables import MIGRATIONS

LENGTHS = (100, 1000, 10_000)
REPEATS = 51
BUSY = "999999G"
"""A `memory_reserve` that no machine has, so that all jobs stay queued."""


def measure() -> list[Figure]:
    """Medians at each length of the queue; the peer has none."""
    figures = []
    for length in LENGTHS:
        with tempfile.TemporaryDirectory(prefix="benchmark-") as root:
            steps = asyncio.run(_steps(Path(root), length))
        start, memory = _start(length)
        figures += [
            Figure(f"{length} queued jobs: {what}", value, None, "ms") for what, value in steps
        ]
        figures += [
            Figure(f"{length} queued jobs: start until it answers", start, None, "s"),
            Figure(f"{length} queued jobs: memory", memory, None, "MB"),
        ]
    return figures


async def _steps(folder: Path, length: int) -> Sequence[tuple[str, float]]:
    database = Database(folder / "daemon.sqlite", migrations=MIGRATIONS, wal=True)
    try:
        queue, inbox = Queue(database, log=logging.getLogger("benchmark")), Inbox(database)
        await queue.create(_works(length))
        runs = iter(range(100_000, 200_000))

        async def event() -> None:
            await inbox.store(MigrationEvent(PROPOSAL, next(runs), "raw", "notify", "", 0.0))
            (stored,) = await inbox.pending()
            await queue.take(stored)

        async def job() -> None:
            claimed = await queue.claim()
            assert claimed is not None, "the queue is long"
            await queue.finish(claimed, State.FINISHED, "", offsets={})
            await queue.set_combined(claimed)

        return [
            ("an event becomes a job", await _median(event)),
            ("a job is claimed, finished, put away", await _median(job)),
            ("when may the next one start", await _median(queue.next_due)),
            ("one more waits for a broken context", await _median(lambda: queue.hold_back("why"))),
        ]
    finally:
        await database.close()


async def _median(step: Callable[[], Awaitable[object]]) -> float:
    took = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        await step()
        took.append(time.perf_counter() - began)
    return 1000 * statistics.median(took)


def _start(length: int) -> tuple[float, float]:
    """Seconds from starting a daemon until it answers, and the MB that it has then."""
    with proposal() as place:
        ours = place.ours(ONE_SCALAR, memory_reserve=BUSY)
        asyncio.run(_fill(ours.folder, length))
        began = time.perf_counter()
        with ours.daemon() as daemon:
            counted = daemon.client.call("status")["jobs"]
            took = time.perf_counter() - began
            assert counted == {"queued": length}, counted
            time.sleep(1.0)
            return took, processes.proportional_size(daemon.tree())


async def _fill(folder: Path, length: int) -> None:
    database = Database(folder / "daemon.sqlite", migrations=MIGRATIONS, wal=True)
    try:
        await Queue(database, log=logging.getLogger("benchmark")).create(_works(length))
    finally:
        await database.close()


def _works(length: int) -> list[Work]:
    """Half of them live."""
    return [
        Work(proposal=PROPOSAL, run=run, data="raw", source="benchmark", live=run % 2 == 0)
        for run in range(1, length + 1)
    ]
