"""Watches how much memory the processes of one attempt use together, and whose fault it is.

The kernel counts where it lets us have a control group, and stops what grows faster than anybody
looks. Elsewhere the sizes of all processes are added up.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ctxlib import cgroup, limits, processes
from ctxlib.cgroup import MemoryGroup

_SPARE = 64 << 20


@dataclass
class MemoryWatch:
    """The memory of an attempt's processes. `limit` is what its job may use in bytes, None for no
    limit; `note` is told in words of processes that were ended for the sake of others.
    """

    attempt_dir: Path
    limit: int | None
    note: Callable[[str], None]
    _kills: int = field(default=0, init=False)
    _seen: dict[int, int] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Make the control group, if there can be one."""
        # Above the limit, as whoever looks in time can say better what was too much.
        bound = None if self.limit is None else self.limit + max(self.limit // 8, _SPARE)
        self._group = MemoryGroup.make(self.attempt_dir, bound)
        self.bound: int | None = None
        """Bytes that the container, or whatever this runs in, may use; None for no limit."""
        self._around: MemoryGroup | None = None
        self._look_around(self._group or cgroup.own())

    def _look_around(self, group: MemoryGroup | None) -> None:
        """The group that all this is in may be bounded by others, who kill without a word."""
        with contextlib.suppress(OSError):
            if group is not None and (bound := group.bound()) is not None:
                self._kills = group.kills()
                self._around, self.bound = group, bound

    @property
    def place(self) -> str | None:
        """The folder of the control group."""
        return None if self._group is None else str(self._group.path)

    def close(self) -> None:
        """Remove the control group."""
        if self._group is not None:
            self._group.remove()

    def members(self) -> list[int]:
        """Pids of what is in the control group, wherever it has gone."""
        return [] if self._group is None else self._group.pids()

    def killed(self) -> bool:
        """Tell whether the kernel has killed for want of memory since this was last asked."""
        group = self._group or self._around
        if group is None:
            return False
        before = self._kills
        with contextlib.suppress(OSError):
            self._kills = group.kills()
        return self._kills > before

    def used(self, runner: int) -> int:
        """Bytes that the tree of process `runner` uses; pages that it shares may count twice."""
        counted = self._counted(runner)
        return limits.resident(self._tree(runner)) if counted is None else counted

    def too_much(self, runner: int, memory: int, since: float | None) -> bool:
        """Tell whether the tree of process `runner` uses more than `memory` bytes.

        `since`, in seconds since boot, is when the present variable began. What earlier ones left
        running is not its fault, and is ended if the rest is not too much without it.
        """
        began = 0 if since is None else int(since * processes.CLOCK_TICKS)
        before, self._seen = self._seen, self._others(runner)
        if self.killed():
            gone = {pid for pid, start in before.items() if start < began} - set(self._seen)
            if not gone:
                return True
            self._note_end(gone, memory)
        if not self._exceeds(runner, memory):
            return False
        others = {pid for pid, start in self._seen.items() if start < began}
        rest = [pid for pid in self._tree(runner) if pid not in others]
        if not others or limits.proportional(rest) > memory:
            return True
        processes.signal_all(others, signal.SIGKILL)
        self._note_end(others, memory)
        return False

    def _note_end(self, others: Iterable[int], memory: int) -> None:
        self.note(
            f"ended what earlier variables had left running ({_words(others)}): used more than "
            f"{limits.words_for_bytes(memory)}"
        )

    def _exceeds(self, runner: int, memory: int) -> bool:
        counted = self._counted(runner)
        if counted is not None:
            return counted > memory
        return limits.exceeds(self._tree(runner), memory)

    def _counted(self, runner: int) -> int | None:
        """What the kernel has counted; None unless the runner is in the group, as it should."""
        if self._group is None or runner not in self._group.pids():
            return None
        try:
            return self._group.used()
        except OSError:
            return None  # somebody has removed it

    def _tree(self, runner: int) -> list[int]:
        return [runner, *processes.descendants(runner)]

    def _others(self, runner: int) -> dict[int, int]:
        """All processes of the attempt but the runner: when each started, in ticks since boot."""
        members = self.members()
        if runner not in members:
            members = self._tree(runner)
        found = (processes.read(pid) for pid in members if pid != runner)
        return {p.pid: p.start for p in found if p is not None and not p.zombie}


def _words(pids: Iterable[int]) -> str:
    return "process " + ", ".join(map(str, sorted(pids)))
