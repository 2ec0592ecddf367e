"""`python -m benchmarks [NAME ...]`: measure, and print the table."""

import argparse
import importlib
import platform
import sys

from benchmarks.figures import Figure, table
from benchmarks.proposals import PEER

MODULES = {
    "single_run": "one run, reprocessed",
    "latency": "from an event to the summaries",
    "throughput": "many runs",
    "arrays": "a run of 100 DataArrays",
    "writing": "50 values into a long table",
    "reading": "a long table from Python",
    "definitions": "context files and `import ctxlib`",
    "startup": "--help",
    "queue": "a long queue",
    "backends": "jobs on each kind of backend",
    "idle": "a daemon with nothing to do",
    "interpreters": "interpreters started",
    "memory": "memory of a job",
}


def main() -> None:
    """Measure what was asked for, or everything."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MODULES))
    names = parser.parse_args().names or list(MODULES)
    unknown = [name for name in names if name not in MODULES]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(MODULES)}")
    if not (PEER / "damnit").exists():
        print("The peer is not installed in .venv-peer; `make bench` does that.", file=sys.stderr)
    figures: list[Figure] = []
    for name in names:
        print(f"{name}: {MODULES[name]} ...", file=sys.stderr, flush=True)
        figures += importlib.import_module(f"benchmarks.{name}").measure()
    print(f"Python {platform.python_version()}, {platform.machine()}; medians\n")
    print(table(figures))


main()
