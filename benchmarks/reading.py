"""Reading a folder of 10,000 runs and 100 variables from Python."""

import asyncio
import json
import os
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from benchmarks import processes
from benchmarks.figures import Figure
from benchmarks.proposals import PEER, PROPOSAL
from ctxlib.files import Result, combine
from ctxlib.plain import encode_plain
from ctxlib.summaries import prepare
from daemon.store.table import RunsTable

RUNS = 10_000
VARIABLES = 100
READER = Path(__file__).with_name("reader.py")
ROOT = Path(__file__).parents[1]


def measure() -> list[Figure]:
    """Seconds, each API in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as root:
        folder = Path(root)
        asyncio.run(_make(folder))
        ours = _read(Path(sys.executable), "ctxlib.RunTable", folder)
        theirs: dict[str, float | None] = {"table": None, "first": None, "again": None}
        if (PEER / "python").exists():
            theirs = {**_read(PEER / "python", "damnit.Damnit", folder)}
    what = f"{RUNS:,} runs x {VARIABLES} variables"
    return [
        Figure(f"{what} as a DataFrame", ours["table"], theirs["table"], "s", "1.5 s"),
        Figure("first value, with the import", ours["first"], theirs["first"], "s"),
        Figure("one more value", ours["again"], theirs["again"], "s"),
    ]


def _read(python: Path, reader: str, folder: Path) -> dict[str, float]:
    result = folder / "result.json"
    command = (python, READER, reader, folder, RUNS, "v00", result)
    processes.run(command, cwd=folder, env={"PYTHONPATH": str(ROOT), "AMORE_BROKER": "none"})
    answer: dict[str, float] = json.loads(result.read_text())
    return answer


async def _make(folder: Path) -> None:
    """Numbers, texts, sparklines and a few thumbnails, and the file of the last run."""
    table = RunsTable(folder / "runs.sqlite", PROPOSAL)
    await table.open()
    await table.register([{"name": f"v{number:02}"} for number in range(VARIABLES)])
    await table.close()
    with closing(sqlite3.connect(folder / "runs.sqlite")) as database, database:
        database.executemany(
            "INSERT INTO run_info (proposal, run, start_time, added_at) VALUES (?, ?, ?, ?)",
            [(PROPOSAL, run, 1.7e9 + run, 1.7e9) for run in range(1, RUNS + 1)],
        )
        database.executemany(
            "INSERT INTO run_variables (proposal, run, name, version, value, timestamp, "
            "summary_type, provenance) VALUES (?, ?, ?, 1, ?, ?, ?, 'context.py')",
            _rows(),
        )
    number = prepare(1.5, log=print)
    result = Result("v00", number.summary, encode_plain(number.data))
    combine(folder / f"extracted_data/p{PROPOSAL}_r{RUNS}.h5", [result], start_time=1.7e9)


def _rows() -> Iterator[tuple[object, ...]]:
    line, picture = os.urandom(2500), b"\x89PNG" + os.urandom(10_000)
    for run in range(1, RUNS + 1):
        for number in range(VARIABLES):
            value: object = run / 7 + number
            kind = None
            if number >= 98:
                value = picture
            elif number >= 90:
                value, kind = line, "trendline"
            elif number >= 75:
                value = f"text {run}"
            elif number >= 60:
                value = run
            yield PROPOSAL, run, f"v{number:02}", value, 1.7e9 + run, kind
