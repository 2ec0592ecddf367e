"""Programs that stop before each system call that changes a file: ptrace, and a seccomp filter.

The kernel counts for nobody: every stop of every thread and process is handed to one function,
in one order, so that a count over them is exact. (`strace -e inject=...:when=N` counts for each
thread alone, and the first thread to come to N takes it from the others.) What stops is what
`strace -f -e trace=...` shows for the same calls.
"""

import contextlib
import ctypes
import os
import platform
import signal
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

# By the numbers of x86-64, each with where its file is: a descriptor, or the path that is made,
# as (index of the folder's descriptor, index of the path).
_DESCRIPTORS = {
    "write": 1, "pwrite64": 18, "writev": 20, "pwritev": 296, "pwritev2": 328,
    "fsync": 74, "fdatasync": 75, "ftruncate": 77, "fallocate": 285,
}  # fmt: skip
_PATHS = {
    "open": (2, None, 0), "openat": (257, 0, 1), "creat": (85, None, 0),
    "rename": (82, None, 1), "renameat": (264, 2, 3), "renameat2": (316, 2, 3),
    "unlink": (87, None, 0), "unlinkat": (263, 0, 1), "rmdir": (84, None, 0),
    "mkdir": (83, None, 0), "mkdirat": (258, 0, 1), "truncate": (76, None, 0),
    "link": (86, None, 1), "linkat": (265, 2, 3), "symlink": (88, None, 1),
    "symlinkat": (266, 1, 2),
}  # fmt: skip
# These count only when they may make a file: which argument has the flags.
_FLAGS = {"open": 1, "openat": 2}
_NAMES = {**{nr: name for name, nr in _DESCRIPTORS.items()}, **{p[0]: n for n, p in _PATHS.items()}}
CALLS = tuple(_NAMES.values())
"""The names of the system calls that programs are stopped at."""

_AT_FDCWD = 2**32 - 100
_TRACE, _ALLOW = 0x7FF00000, 0x7FFF0000
_CONT, _SEIZE, _GETEVENTMSG, _LISTEN, _SYSCALL_INFO = 7, 0x4206, 0x4201, 0x4208, 0x420E
_FORK, _VFORK, _CLONE, _EXEC, _SECCOMP, _STOP = 1, 2, 3, 4, 7, 128
_OPTIONS = sum(1 << event for event in (_FORK, _VFORK, _CLONE, _EXEC, _SECCOMP)) | 1 << 20
"""What is told of; and whoever is traced dies with the tracer, as its calls would fail then."""
_WALL = 0x40000000
_STOPPING = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_LIBC.ptrace.restype = ctypes.c_long


@dataclass(frozen=True)
class Call:
    """A system call that is about to be made: by which process, its name, the path it changes."""

    pid: int
    name: str
    path: str


def possible() -> str:
    """Why programs cannot be traced here; "" when they can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "system calls are told apart on Linux on x86-64 only"
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    if scope.exists() and int(scope.read_text()) > 2:
        return f"{scope} forbids to trace processes: put 1 there, as root"
    return ""


def run(
    command: Sequence[str],
    stopped: Callable[[Call], None],
    *,
    forked: Callable[[int, int], None],
    executed: Callable[[int], None],
) -> int:
    """Run `command` until it and all that it started have ended; its wait status.

    `stopped` is called before each call, which is made when it returns, unless the process was
    killed by it; `forked` with the parent's and the new process's pid, `executed` when a process
    has become another program. For one thread of a process that has no other children.
    """
    gate, opener = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(opener)
            os.read(gate, 1)
            _install_filter()
            os.execvp(command[0], list(command))
        finally:
            os._exit(127)
    os.close(gate)
    _ptrace(_SEIZE, child, _OPTIONS)
    os.write(opener, b".")
    os.close(opener)
    result = 0
    owners = _Owners()
    while True:
        try:
            tid, status = os.waitpid(-1, _WALL)
        except ChildProcessError:
            return result
        if os.WIFSTOPPED(status):
            with contextlib.suppress(ProcessLookupError):  # it was killed meanwhile
                _go_on(tid, status, owners, stopped, forked, executed)
            continue
        owners.forget(tid)
        if tid == child:
            result = status


def _go_on(
    tid: int,
    status: int,
    owners: "_Owners",
    stopped: Callable[[Call], None],
    forked: Callable[[int, int], None],
    executed: Callable[[int], None],
) -> None:
    event, number = status >> 16, os.WSTOPSIG(status)
    if event == _STOP and number in _STOPPING:
        _ptrace(_LISTEN, tid)
        return
    if event == _SECCOMP:
        call = _call(tid, owners.of(tid))
        if call is not None:
            stopped(call)
    elif event in (_FORK, _VFORK):
        forked(owners.of(tid), _message(tid))
    elif event == _EXEC:
        executed(owners.of(tid))
    _ptrace(_CONT, tid, 0 if event else number)


class _Owners:
    """Which process a thread belongs to."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}

    def of(self, tid: int) -> int:
        if tid not in self._known:
            self._known[tid] = tid
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{tid}/status").read_text()
                self._known[tid] = int(status.split("\nTgid:")[1].split()[0])
        return self._known[tid]

    def forget(self, tid: int) -> None:
        self._known.pop(tid, None)


def _call(tid: int, pid: int) -> Call | None:
    info = ctypes.create_string_buffer(128)
    _ptrace(_SYSCALL_INFO, tid, ctypes.addressof(info), 128)
    number, *arguments = struct.unpack_from("<7Q", info.raw, 24)
    name = _NAMES[number]
    try:
        path = _path(tid, name, arguments)
    except OSError:
        return None  # no such descriptor or address: the call will fail
    return Call(pid, name, path)


def _path(tid: int, name: str, arguments: Sequence[int]) -> str:
    if name in _DESCRIPTORS:
        return str(Path(f"/proc/{tid}/fd/{arguments[0]}").readlink())
    _, folder, index = _PATHS[name]
    with Path(f"/proc/{tid}/mem").open("rb", buffering=0) as memory:
        address = arguments[index]
        memory.seek(address)
        text = memory.read(4096 - address % 4096)
        if b"\0" not in text:
            text += memory.read(4096)
    path = os.fsdecode(text.partition(b"\0")[0])
    descriptor = _AT_FDCWD if folder is None else arguments[folder] & 0xFFFFFFFF
    where = "cwd" if descriptor == _AT_FDCWD else f"fd/{descriptor}"
    return str(Path(f"/proc/{tid}/{where}").readlink() / path)


def _message(tid: int) -> int:
    value = ctypes.c_ulong()
    _ptrace(_GETEVENTMSG, tid, ctypes.addressof(value))
    return value.value


def _ptrace(request: int, tid: int, data: int = 0, address: int = 0) -> None:
    if _LIBC.ptrace(request, tid, address, data) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace {request:#x} of {tid}: {os.strerror(number)}")


def _install_filter() -> None:
    """Have the kernel stop this process, and all it starts, at the calls above."""
    load, equal, any_bit, give = 0x20, 0x15, 0x45, 0x06
    steps = [(load, 0, 0, 4), (equal, 1, 0, 0xC000003E), (give, 0, 0, _ALLOW), (load, 0, 0, 0)]
    for number, name in _NAMES.items():
        if name in _FLAGS:
            steps += [(equal, 0, 4, number), (load, 0, 0, 16 + 8 * _FLAGS[name])]
            steps += [(any_bit, 0, 1, os.O_CREAT), (give, 0, 0, _TRACE), (give, 0, 0, _ALLOW)]
        else:
            steps += [(equal, 0, 1, number), (give, 0, 0, _TRACE)]
    steps.append((give, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(
        struct.pack("<H6xQ", len(steps), ctypes.addressof(code)), 16
    )
    for arguments in ((38, 1, 0, 0, 0), (22, 2, ctypes.addressof(program), 0, 0)):
        if _LIBC.prctl(*map(ctypes.c_ulong, arguments)) == -1:
            raise OSError(ctypes.get_errno(), "the seccomp filter is refused")
