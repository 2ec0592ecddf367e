"""Kills a piece of work at each of its steps: SQL statements, and files opened, made or renamed."""

import os
import resource
import signal
import sqlite3
import sys
from collections.abc import Callable
from typing import Any

_STEPS = {
    "os.rename",
    "os.link",
    "os.remove",
    "os.mkdir",
    "os.chmod",
    "os.utime",
    "sqlite3.connect",
}


def killed_at(number: int, work: Callable[[], object]) -> bool:
    """Run `work` in a forked process that is killed before its step `number`; False at its end."""
    left = number

    def step() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    ended = in_child(lambda: _in_steps(work, step))
    assert ended in (0, -signal.SIGKILL), "the work itself failed"
    return ended != 0


def number_of_steps(work: Callable[[], object]) -> int:
    """Run `work` in a forked process, and return how many steps it has."""
    reader, writer = os.pipe()
    ended = in_child(lambda: _in_steps(work, lambda: os.write(writer, b".")))
    os.close(writer)
    with open(reader, "rb") as steps:  # noqa: PTH123 - a pipe has no path
        number = len(steps.read())
    assert ended == 0, "the work itself failed"
    return number


def _in_steps(work: Callable[[], object], step: Callable[[], object]) -> None:
    """Do `work`, and call `step` before each of its steps; for processes that end with it."""

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _STEPS or (event == "open" and _writes(arguments[2])):
            step()

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = real_connect(*arguments, **options)
        connection.set_trace_callback(lambda _: step())
        return connection

    real_connect = sqlite3.connect
    sqlite3.connect = connect  # type: ignore[assignment]  # of the one call that is needed
    sys.addaudithook(audit)
    work()


def with_files_up_to(size: int, work: Callable[[], object]) -> bool:
    """Run `work` in a forked process that can make no file longer than `size`; whether it could."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        work()

    ended = in_child(limited)
    assert ended in (0, 1), f"it died of signal {-ended}"
    return ended == 0


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked process: 0, 1 if it raised, or less than 0, the signal it died of."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _writes(flags: object) -> bool:
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))
