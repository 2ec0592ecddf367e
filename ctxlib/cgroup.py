"""A control group for the processes of one attempt: the kernel counts and bounds their memory.

Both versions of Linux's control groups are known. Where this process may not make a group there is
none, and memory is watched from outside. A group is made beside or below the one that this process
is in, so that it never gets more than what is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ctxlib import processes

_PREFIX = "runtable-"
# What version 1 says for no limit, but for a page or so.
_ENDLESS = 1 << 62


@dataclass(frozen=True)
class MemoryGroup:
    """A group with its folder `path`; `version` is 1 or 2."""

    path: Path
    version: int

    @classmethod
    def make(
        cls, attempt_dir: Path, limit: int | None, root: Path = Path("/")
    ) -> MemoryGroup | None:
        """A group for an attempt, bounded to `limit` bytes (None: not); None if there can be none.

        It is this process's, which watches the attempt. `root` is where /proc and /sys are.
        """
        place = _place(root)
        if place is None:
            return None
        group = cls(place.path / _name(attempt_dir, os.getpid()), place.version)
        try:
            group.path.mkdir(exist_ok=True)
            group._bound(limit)
        except OSError:
            group.remove()
            return None
        return group

    def _bound(self, limit: int | None) -> None:
        files = {
            1: ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
            2: ("memory.max", "memory.swap.max"),
        }
        memory, swap = files[self.version]
        if limit is None:
            # That there is such a file tells that memory is counted here.
            (self.path / memory).read_text()
            return
        (self.path / memory).write_text(str(limit))
        # Kernels without swap accounting have no such file.
        with contextlib.suppress(OSError):
            (self.path / swap).write_text(str(limit) if self.version == 1 else "0")

    def enter(self) -> None:
        """Put this process, and whatever it starts from now on, into the group."""
        (self.path / "cgroup.procs").write_text("0")

    def used(self) -> int:
        """Bytes that its processes hold and cannot give back: cached files are left out."""
        names = {1: ("total_rss", "total_shmem"), 2: ("anon", "shmem")}[self.version]
        return sum(self._numbers("memory.stat").get(name, 0) for name in names)

    def bound(self) -> int | None:
        """Bytes that its processes may use; None for as much as there is.

        In version 1 that is what the groups around it may, if that is less.
        """
        if self.version == 1:
            around = self._numbers("memory.stat").get("hierarchical_memory_limit")
            if around is not None:
                return None if around >= _ENDLESS else around
        name = {1: "memory.limit_in_bytes", 2: "memory.max"}[self.version]
        text = (self.path / name).read_text().strip()
        return None if text == "max" or int(text) >= _ENDLESS else int(text)

    def kills(self) -> int:
        """How many of its processes the kernel has killed because the group was full.

        Those that it killed because the whole machine was are none of them.
        """
        if self.version == 1:
            # How often it was full is not counted by all kernels (memory.failcnt).
            most = int((self.path / "memory.max_usage_in_bytes").read_text())
            limit, bound = int((self.path / "memory.limit_in_bytes").read_text()), self.bound()
            # Others may have filled the one around it.
            full = most > 0.9 * limit or (bound is not None and bound < limit)
            return self._numbers("memory.oom_control").get("oom_kill", 0) if full else 0
        events = self._numbers("memory.events")
        return events.get("oom_kill", 0) if events.get("oom", 0) else 0

    def _numbers(self, name: str) -> dict[str, int]:
        lines = (self.path / name).read_text().splitlines()
        return {key: int(number) for key, number in map(str.split, lines)}

    def pids(self) -> list[int]:
        """The processes in the group."""
        return members(self.path)

    def remove(self) -> None:
        """Remove the group, unless there still are processes in it."""
        remove(self.path)


def members(path: Path) -> list[int]:
    """The processes in the group with this folder; none if there is no such group any more."""
    try:
        return [int(pid) for pid in (path / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def remove(path: Path) -> None:
    """Remove the group with this folder, unless there still are processes in it."""
    with contextlib.suppress(OSError):
        path.rmdir()


def of_attempt(attempt_dir: Path, watcher: int, root: Path = Path("/")) -> MemoryGroup | None:
    """The group that process `watcher` has made for an attempt, if it could make one."""
    place = _place(root)
    if place is None:
        return None
    return MemoryGroup(place.path / _name(attempt_dir, watcher), place.version)


def sweep(root: Path = Path("/")) -> None:
    """Remove the groups of watchers that were killed, as far as they are empty."""
    place = _place(root)
    if place is not None:
        for path in place.path.glob(_PREFIX + "*"):
            watcher = path.name.removeprefix(_PREFIX).partition("-")[0]
            # Others, a service of Systemd's say, may have a name that begins like ours.
            if watcher.isdecimal() and processes.read(int(watcher)) is None:
                remove(path)


def _name(attempt_dir: Path, watcher: int) -> str:
    # Jobs of two databases can have the same name.
    where = hashlib.sha256(str(attempt_dir).encode()).hexdigest()[:12]
    return f"{_PREFIX}{watcher}-{attempt_dir.parent.name[:80]}-{attempt_dir.name}-{where}"


def own(root: Path = Path("/")) -> MemoryGroup | None:
    """The group that this process is in, which may be a container's or a Slurm job's."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if "memory" in controllers.split(","):
            return _find(root, mounts, "cgroup", "memory", name)
    for line in lines:
        if line.startswith("0::"):
            return _find(root, mounts, "cgroup2", "", line[3:])
    return None


def _place(root: Path) -> MemoryGroup | None:
    """The group in which groups for attempts can be made."""
    mine = own(root)
    return _delegated(mine) if mine is not None and mine.version == 2 else mine


def _find(root: Path, mounts: list[str], kind: str, option: str, name: str) -> MemoryGroup | None:
    """The folder of group `name` in the hierarchy of this kind, as far as it is mounted here."""
    for mounted, point in _mounted(mounts, kind, option):
        with contextlib.suppress(ValueError):
            path = root / point.lstrip("/") / Path(name).relative_to(mounted)
            return MemoryGroup(path, 1 if kind == "cgroup" else 2)
    return None


def _mounted(mounts: list[str], kind: str, option: str) -> Iterator[tuple[str, str]]:
    for line in mounts:
        before, after = (part.split() for part in line.split(" - ", 1))
        if after[0] == kind and (not option or option in after[-1].split(",")):
            yield before[3], before[4]


def _delegated(mine: MemoryGroup) -> MemoryGroup | None:
    """The nearest group in which memory is counted for each group below, if it may be used.

    In version 2 that is seldom one with processes in it, but often the one above.
    """
    for path in (mine.path, mine.path.parent):
        with contextlib.suppress(OSError):
            if "memory" in (path / "cgroup.subtree_control").read_text().split():
                return MemoryGroup(path, 2)
    return None
