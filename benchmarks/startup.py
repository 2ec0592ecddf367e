"""How soon `--help` answers."""

import sys
from pathlib import Path

from benchmarks import processes
from benchmarks.figures import Figure, median_seconds
from benchmarks.proposals import PEER

REPEATS = 9


def measure() -> list[Figure]:
    """The program's help and that of its heaviest command, each by the installed script."""
    ours = Path(sys.executable).with_name("runtable")
    peer = PEER / "damnit"
    return [
        Figure(" ".join(["help:", *words]), _help(ours, words), _help(peer, words), "s", "0.15 s")
        for words in ((), ("reprocess",))
    ]


def _help(program: Path, words: tuple[str, ...]) -> float | None:
    if not program.exists():
        return None
    command = (program, *words, "--help")
    return median_seconds(lambda: processes.run(command, cwd=Path.cwd()), REPEATS)
