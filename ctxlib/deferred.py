"""What goes last in a new attempt: variables that ran when an earlier one was lost.

They may have had no part in it; but if they had, everything else is computed before it is lost
again.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

from ctxlib.graph import Node
from ctxlib.journal import JournalReader


def running_when_lost(attempt_dir: Path) -> set[str]:
    """Names of the variables that were running when earlier attempts of this job ended."""
    number = int(attempt_dir.name)
    earlier = [attempt_dir.with_name(str(n)) for n in range(1, number)]
    return {name for attempt in earlier if (name := _running(attempt)) is not None}


def _running(attempt_dir: Path) -> str | None:
    running: str | None = None
    for entry in JournalReader(attempt_dir).read():
        if entry.kind == "started":
            running = entry.fields["variable"]
        elif entry.kind in ("finished", "failed", "died"):
            running = None
    return running


def deferred(nodes: Sequence[Node], names: Collection[str]) -> list[Node]:
    """Put the variables `names`, and what depends on them, after all others.

    `nodes` are in order of dependency, and stay so.
    """
    late: set[str] = set(names)
    for node in nodes:
        if late.intersection(node.dependencies):
            late.add(node.name)
    return sorted(nodes, key=lambda node: node.name in late)
