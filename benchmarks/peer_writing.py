"""Run by the peer's Python: the same writes as in `writing`, through the peer's own table."""

import json
import statistics
import sys
import time
from pathlib import Path

from damnit.backend.db import DamnitDB, ReducedData


def main() -> None:
    """`peer_writing.py DATABASE RESULT.json PROPOSAL VALUES LONG REPEATS`."""
    database, result = map(Path, sys.argv[1:3])
    proposal, values, long, repeats = map(int, sys.argv[3:])
    table = DamnitDB(database, create=True)
    names = [f"v{i}" for i in range(values)]

    def write(run: int) -> float:
        began = time.perf_counter()
        table.set_variables(proposal, run, {n: ReducedData(run / 7) for n in names}, "context.py")
        return time.perf_counter() - began

    write(0)
    empty = statistics.median(write(run) for run in range(1, 1 + repeats))
    now = time.time()
    table.conn.executemany(
        "INSERT INTO run_info (proposal, run, start_time, added_at) VALUES (?, ?, ?, ?)",
        [(proposal, run, now, now) for run in range(1000, 1000 + long)],
    )
    table.conn.executemany(
        "INSERT INTO run_variables (proposal, run, name, version, value, timestamp, provenance) "
        "VALUES (?, ?, ?, 1, ?, ?, 'context.py')",
        [(proposal, r, name, r / 7, now) for r in range(1000, 1000 + long) for name in names],
    )
    table.conn.commit()
    longer = statistics.median(write(run) for run in range(500, 500 + repeats))
    result.write_text(json.dumps({"empty": 1000 * empty, "long": 1000 * longer}))


main()
