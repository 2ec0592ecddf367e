"""Writing one run's 50 values into a table of 10,000 runs, against an empty one."""

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks import processes
from benchmarks.figures import Figure
from benchmarks.proposals import PEER, PROPOSAL
from ctxlib.summary import Summary
from daemon.store.rows import CellValue
from daemon.store.table import RunsTable

VALUES = 50
LONG = 10_000
REPEATS = 51


def measure() -> list[Figure]:
    """Median milliseconds of one write, through each project's own table."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as root:
        ours = asyncio.run(_ours(Path(root) / "ours.sqlite"))
        theirs = _peer(Path(root))
    return [
        Figure("50 values into an empty table", ours[0], theirs[0], "ms", "5 ms"),
        Figure("50 values into 10,000 runs", ours[1], theirs[1], "ms", "the same"),
    ]


async def _ours(path: Path) -> tuple[float, float]:
    table = RunsTable(path, PROPOSAL)
    await table.open()
    try:
        names = [f"v{i}" for i in range(VALUES)]
        await table.register([{"name": name} for name in names])
        empty = await _writes(table, names, 1)
        for run in range(1000, 1000 + LONG):
            await _write(table, names, run)
        return empty, await _writes(table, names, 500)
    finally:
        await table.close()


async def _write(table: RunsTable, names: list[str], run: int) -> None:
    summary = Summary(run / 7, None, None, None, {})
    await table.set_results(PROPOSAL, run, [CellValue(name, summary) for name in names])


async def _writes(table: RunsTable, names: list[str], first: int) -> float:
    took = []
    for run in range(first, first + REPEATS):
        began = time.perf_counter()
        await _write(table, names, run)
        took.append(time.perf_counter() - began)
    return 1000 * statistics.median(took)


def _peer(root: Path) -> tuple[float | None, float | None]:
    if not (PEER / "python").exists():
        return None, None
    program = Path(__file__).with_name("peer_writing.py")
    result = root / "peer.json"
    arguments = (root / "peer.sqlite", result, PROPOSAL, VALUES, LONG, REPEATS)
    processes.run((PEER / "python", program, *arguments), cwd=root, env={"AMORE_BROKER": "none"})
    answer = json.loads(result.read_text())
    return answer["empty"], answer["long"]
