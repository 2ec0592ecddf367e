"""How a runner comes to be: a forked process, or a new interpreter."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ctxlib import cgroup, output, processes


def threads() -> int:
    """How many threads this process has; a forked one has only that which forks."""
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - only how many


def spawn(attempt_dir: Path, n: int, *options: str) -> int:
    """Start runner `n` of an attempt in a new interpreter, and return its pid.

    `options` are those of `ctxlib.runner`.
    """
    library = str(Path(__file__).parent.parent)
    program = f"import sys; sys.path[0] = {library!r}; from ctxlib.runner import main; main()"
    command = [sys.executable, "-c", program, str(attempt_dir), str(n), *options]
    return os.posix_spawn(sys.executable, command, os.environ, setsid=True, setsigmask=())


def enter(parent: int, attempt_dir: Path) -> None:
    """Make this process a runner of the process `parent`: a session of its own that ends with it.

    It is also what its descendants fall to when they leave their session and parent; and it is in
    the control group of its attempt, if that has one.
    """
    if os.getsid(0) != os.getpid():
        os.setsid()
    processes.die_with_parent(parent)
    processes.adopt_orphans()
    group = cgroup.of_attempt(attempt_dir, parent)
    if group is not None:
        # Nobody may have been able to make one.
        with contextlib.suppress(OSError):
            group.enter()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


def end_with(work: Callable[[], int]) -> NoReturn:
    """Do `work` and end this process with the exit code that it returns, 1 when it raises.

    At once: threads that a variable left behind would keep a normal exit waiting.
    """
    code = 1
    try:
        code = work()
    except BaseException:
        # This process ends below, so nobody else would say it.
        traceback.print_exc()
        raise
    finally:
        output.flush()
        os._exit(code)
