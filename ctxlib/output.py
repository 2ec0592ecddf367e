"""Where the output of a job goes, and what the runner itself says there.

Everything goes to file descriptors 1 and 2, so that the output of C libraries and of programs
that a variable starts stands in its place between the lines of Python.
"""

import contextlib
import io
import os
import sys
import time
from pathlib import Path

from ctxlib import processes

_log: tuple[Path, os.stat_result] | None = None


def redirect(log: Path) -> None:
    """Append all output of this process and its children to the file `log`."""
    global _log
    log.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    _log = log, os.fstat(fd)
    if fd > 2:
        os.close(fd)


def redirect_again() -> bool:
    """Redirect this process's output as before, if somebody has changed or closed it; say so."""
    if _log is None or all(_is_of(fd, _log[1]) for fd in (1, 2)):
        return False
    redirect(_log[0])
    return True


def _is_of(fd: int, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), file)
    except OSError:
        return False


def write_by_line() -> None:
    """Have Python write each line as it is printed: nothing is lost when the process is killed.

    What cannot be encoded is escaped.
    """
    for stream in (sys.__stdout__, sys.__stderr__):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, encoding="utf-8", errors="backslashreplace")


def flush() -> None:
    """Write out everything that Python and C code hold back, as far as it can be written."""
    for stream in (sys.stdout, sys.__stdout__, sys.stderr, sys.__stderr__):
        # User code may have put anything there; and the disk may be full.
        with contextlib.suppress(Exception):
            stream.flush()  # type: ignore[union-attr]
    processes.flush_c_output()


def say(text: str) -> None:
    """Print a line of the runner's own, with the time of day; everything printed comes before.

    Where it cannot be written it is lost: what it tells of has happened all the same.
    """
    flush()
    now = time.time()
    clock = time.strftime("%H:%M:%S", time.localtime(now))
    # One write, and straight to the descriptor: user code may have replaced sys.stdout.
    line = f"# {clock}.{int(now % 1 * 1000):03d} {text}\n"
    with contextlib.suppress(OSError):
        os.write(1, line.encode("utf-8", "backslashreplace"))


def words_for_seconds(seconds: float) -> str:
    """A duration for people: 12 ms, 3.42 s, 12 min 5 s, 2 h."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (left, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number)
