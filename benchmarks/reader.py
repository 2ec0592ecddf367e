"""Run by either project's Python: how long its API takes to read a folder.

`reader.py ctxlib.RunTable|damnit.Damnit FOLDER RUN NAME RESULT.json`
"""

import importlib
import json
import statistics
import sys
import time
import warnings
from pathlib import Path

REPEATS = 3


def main() -> None:
    """Measure the first value in a fresh process, then one more, and the whole table."""
    path, folder, run, name, result = sys.argv[1:]
    began = time.perf_counter()
    module, _, kind = path.partition(".")
    database = getattr(importlib.import_module(module), kind)(folder)
    database[int(run), name].read()
    first = time.perf_counter() - began
    again, table = [], []
    for _ in range(REPEATS):
        began = time.perf_counter()
        database[int(run), name].read()
        again.append(time.perf_counter() - began)
    import pandas  # noqa: F401 - its import is not what is measured

    for _ in range(REPEATS):
        began = time.perf_counter()
        database.table()
        table.append(time.perf_counter() - began)
    answer = {"first": first, "again": statistics.median(again), "table": statistics.median(table)}
    Path(result).write_text(json.dumps(answer))


warnings.simplefilter("ignore")
main()
