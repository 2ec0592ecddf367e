"""Processes as Linux tells of them: who they are, whose children, and how to end them all."""

import ctypes
import os
import signal
import socket
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOREIGN_SIGNALS = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""Signals that come from outside a process rather than from what it does."""

ATTEMPT = "RUNTABLE_ATTEMPT"
"""Environment variable with the folder of the attempt that a program was started in."""

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
"""Clock ticks of a second."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Process:
    """A line of /proc/<pid>/stat; `start` is in clock ticks since boot.

    `stopped` tells that SIGSTOP or the like holds it, and not a debugger.
    """

    pid: int
    parent: int
    session: int
    start: int
    zombie: bool
    stopped: bool


def die_with_parent(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this process `number` when process `parent` ends, or already has."""
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def outlive_parent() -> None:
    """Take back what `die_with_parent` asked for."""
    _prctl(_PR_SET_PDEATHSIG, 0)


def adopt_orphans() -> None:
    """Make this process the parent of all its descendants whose own parents end."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc().prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}, {value}): {os.strerror(number)}")


def flush_c_output() -> None:
    """Write out what C code of this process has printed so far."""
    _libc().fflush(None)


def host() -> str:
    """Name of this machine."""
    return socket.gethostname()


@cache
def boot_id() -> str:
    """What identifies this boot of this machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def read(pid: int) -> Process | None:
    """The process `pid`, or None when there is none."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return None
    try:
        stat = os.read(fd, 4096)
    except ProcessLookupError:
        return None
    finally:
        os.close(fd)
    # The name in parentheses can hold anything, parentheses too.
    fields = stat[stat.rfind(b")") + 2 :].split()
    parent, session, start, state = int(fields[1]), int(fields[3]), int(fields[19]), fields[0]
    return Process(pid, parent, session, start, state in b"ZX", state == b"T")


def is_alive(pid: int, start: int) -> bool:
    """Tell whether the process that had `pid` and began at `start` ticks still runs."""
    process = read(pid)
    return process is not None and process.start == start and not process.zombie


def everyone() -> list[Process]:
    """All processes that can be seen."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208
    return [process for pid in pids if (process := read(pid)) is not None]


def descendants(root: int, without: Collection[int] = ()) -> list[int]:
    """Pids of the children of `root`, their children and so on, zombies left out.

    Those in `without`, and what descends from them, are left out too.
    """
    children = _children if _kernel_lists_children() else _children_by_scan()
    found: list[int] = []
    waiting = [root]
    while waiting:
        new = [pid for pid in children(waiting.pop()) if pid not in without]
        found += new
        waiting += new
    return [pid for pid in found if (p := read(pid)) is not None and not p.zombie]


def _children_by_scan() -> Callable[[int], list[int]]:
    by_parent: dict[int, list[int]] = {}
    for process in everyone():
        by_parent.setdefault(process.parent, []).append(process.pid)
    return lambda pid: by_parent.get(pid, [])


@cache
def _kernel_lists_children() -> bool:
    # Kernels built without CONFIG_PROC_CHILDREN have no such file.
    return Path("/proc/self/task", str(os.getpid()), "children").exists()


def _children(pid: int) -> list[int]:
    children: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (thread / "children").read_text().split())
    except OSError:
        # The process ended meanwhile; its children are somebody else's now.
        return children
    return children


def session_members(session: int) -> list[int]:
    """Pids of the processes of a session, zombies left out."""
    return [p.pid for p in everyone() if p.session == session and not p.zombie]


def started_with(name: str, value: str) -> list[int]:
    """Pids of the programs that were started with this environment variable, zombies left out."""
    wanted = os.fsencode(f"{name}={value}")
    found = []
    for process in everyone():
        try:
            environment = Path(f"/proc/{process.pid}/environ").read_bytes()
        except OSError:
            continue  # it has ended, or is somebody else's
        if wanted in environment.split(b"\0"):
            found.append(process.pid)
    return found


def words_for_end(wait_status: int) -> str:
    """How a process ended, by what waiting for it gave: "killed by signal SIGSEGV (...)"."""
    if not os.WIFSIGNALED(wait_status):
        return f"ended by itself with exit code {os.waitstatus_to_exitcode(wait_status)}"
    number = os.WTERMSIG(wait_status)
    # Real-time signals have no names.
    names = {known.value: known.name for known in signal.Signals}
    return f"killed by signal {names.get(number, number)} ({signal.strsignal(number)})"


def signal_all(pids: Iterable[int], number: int) -> None:
    """Send a signal to processes; those that are gone already do not matter."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def kill_until_gone(find: Callable[[], Iterable[int]], timeout: float = 5.0) -> list[int]:
    """Kill what `find` gives until it gives nothing; return what is left after `timeout` s.

    It is asked again after each round because processes may fork while they are being killed.
    """
    deadline = time.monotonic() + timeout
    while pids := list(find()):
        signal_all(pids, signal.SIGKILL)
        if time.monotonic() > deadline:
            return pids
        time.sleep(0.001)
    return []


def has_children() -> bool:
    """Tell whether this process has children, adopted ones and those not waited for included."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def after_children() -> float:
    """Return seconds since boot of a later clock tick than the children of this process began in.

    The next tick is waited for, as `Process.start` says no more than that; without children there
    is nothing to wait for.
    """
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    tick = int(now * CLOCK_TICKS)
    while has_children() and int(now * CLOCK_TICKS) == tick:
        time.sleep(max(0.0, (tick + 1) / CLOCK_TICKS - now))
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
    return now


def ended_children() -> Iterator[tuple[int, int]]:
    """Wait for the children that have ended, adopted ones too: pid and wait status of each."""
    while True:
        try:
            pid, wait_status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, wait_status
