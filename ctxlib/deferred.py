"""What goes last in a new attempt: variables that ran when an earlier one was lost.

They may have had no part in it; but if they had, everything else is computed before it is lost
again. Those that ran at every loss leave the last attempt to the others.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from ctxlib import claim
from ctxlib.graph import Node
from ctxlib.journal import Entry, JournalReader


def running_when_lost(attempt_dir: Path) -> dict[str, list[int]]:
    """Variables that were running when earlier attempts of this job ended: in which of them.

    A restart of the host is nobody's doing.
    """
    found: dict[str, list[int]] = {}
    for number in range(1, int(attempt_dir.name)):
        earlier = attempt_dir.with_name(str(number))
        made = claim.read(earlier)
        name = running_at_the_end(JournalReader(earlier).read())
        if name is not None and not (made is not None and made.booted_since()):
            found.setdefault(name, []).append(number)
    return found


def lost_errors(lost: Mapping[str, Sequence[int]], attempts: int) -> dict[str, dict[str, str]]:
    """The errors, as in journals, of those that ran whenever one was lost (`running_when_lost`).

    `attempts` are all that a job may lose: they get them before the last one, and not for a single
    loss.
    """
    return {
        name: killed(
            f"its job was lost while it ran, in attempts {' and '.join(map(str, numbers))}"
        )
        for name, numbers in lost.items()
        if len(numbers) >= max(2, attempts - 1)
    }


def killed(message: str) -> dict[str, str]:
    """The error, as in journals, of a variable whose process is gone."""
    return {"type": "Killed", "message": message, "traceback": ""}


def running_at_the_end(entries: Iterable[Entry]) -> str | None:
    """The variable that is running when these lines of an attempt end."""
    running: str | None = None
    for entry in entries:
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
