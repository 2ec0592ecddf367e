"""What it takes to load a context file and to order its variables, and `import ctxlib` itself."""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.figures import Figure

REPEATS = 7
VARIABLES = 500
NODES = 5_000

IMPORT = """
import json, time
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6
before, began = resident(), time.perf_counter()
import ctxlib
print(json.dumps([time.perf_counter() - began, resident() - before]))
"""
LOAD = """
import json, sys, time
from pathlib import Path
from ctxlib.context import load
from ctxlib.graph import Graph
began = time.perf_counter()
context = load(Path(sys.argv[1]))
loaded = time.perf_counter()
graph = Graph(context)
ordered = time.perf_counter()
assert len(graph.order) == int(sys.argv[2]) and not graph.problems
print(json.dumps([loaded - began, ordered - loaded]))
"""


def measure() -> list[Figure]:
    """Each in a new process; the peer has no part of its own that does this alone."""
    took, megabytes = _medians(IMPORT)
    with TemporaryDirectory() as folder:
        small, large = Path(folder, "small.py"), Path(folder, "large.py")
        small.write_text(_connected(VARIABLES), encoding="utf-8")
        large.write_text(_connected(NODES), encoding="utf-8")
        load_small, order_small = _medians(LOAD, str(small), str(VARIABLES))
        load_large, order_large = _medians(LOAD, str(large), str(NODES))
    return [
        Figure("import ctxlib", took, None, "s"),
        Figure("memory of import ctxlib", megabytes, None, "MB"),
        Figure(f"load a context of {VARIABLES} variables", load_small, None, "s"),
        Figure(f"order a graph of {VARIABLES}", order_small, None, "s"),
        Figure(f"load a context of {NODES} variables", load_large, None, "s"),
        Figure(f"order a graph of {NODES}", order_large, None, "s"),
    ]


def _medians(program: str, *arguments: str) -> tuple[float, float]:
    command = (sys.executable, "-c", program, *arguments)
    done = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(REPEATS)
    ]
    first, second = zip(*done, strict=True)
    return statistics.median(first), statistics.median(second)


def _connected(number: int) -> str:
    """A context of variables that need up to two earlier ones each, at several distances."""
    parts = ["from damnit_ctx import Variable\n"]
    for n in range(number):
        needed = dict.fromkeys([n - 1, n // 2] if n % 10 else [])
        words = "".join(f', a{i}: "var#v{i}"' for i in needed)
        total = " + ".join(["1", *(f"a{i}" for i in needed)])
        decorator = f'@Variable(title="Variable {n}", tags=["t"])'
        parts.append(f"{decorator}\ndef v{n}(run{words}):\n    return {total}\n")
    return "\n".join(parts)
