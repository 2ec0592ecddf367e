"""Processes that a benchmark starts, with all that they start: what they use, and their end."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

MB = 2**20


def run(command: Sequence[object], *, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Run a command to its end and return what it said; RuntimeError with that when it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stdout[-3000:]}")
    return done.stdout


@contextmanager
def background(
    command: Sequence[object], *, cwd: Path, log: Path, env: Mapping[str, str] | None = None
) -> Iterator[psutil.Process]:
    """A command that runs until the end of the block, when it and all it has started are ended."""
    with log.open("ab") as output:
        started = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield psutil.Process(started.pid)
    finally:
        end(started.pid)
        started.wait()


def end(pid: int) -> None:
    """End a process and all that descend from it; nothing happens when it has ended by itself."""
    try:
        root, *below = tree(pid)
        root.terminate()
    except psutil.NoSuchProcess:
        return
    root.wait()
    _, left = psutil.wait_procs(below, timeout=10)
    for process in left:
        process.kill()


def tree(pid: int) -> list[psutil.Process]:
    """A process and all that descend from it."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def proportional_size(processes: Sequence[psutil.Process]) -> float:
    """What processes use together in MB, what they share counted once (PSS)."""
    total = 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue  # it has just ended
    return total / MB


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """Seconds of a core that processes have used so far."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def bare_interpreter(imports: str, *, python: Path = Path(sys.executable)) -> float:
    """What an interpreter uses that has done nothing but `imports`, in MB."""
    code = (
        f"{imports}\n"
        "for line in open('/proc/self/smaps_rollup'):\n"
        "    if line.startswith('Pss:'): print(line.split()[1])"
    )
    return int(run([python, "-c", code], cwd=Path.cwd())) / 1024
