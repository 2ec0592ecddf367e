"""One attempt of one job by itself, on whatever host: `python -m ctxlib.alone ATTEMPT_DIR`.

It claims the attempt, starts its runners and watches them as a fork server does; the context is
loaded by the runners. The exit code says how far it came (see `FINISHED` and the others); what
became of the job stands in its journal alone. Told to end by a signal it ends all processes of the
attempt and says nothing: whoever runs it, Slurm or a container, knows why.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ctxlib import limits, processes

if TYPE_CHECKING:
    from ctxlib.attempt import AttemptSupervisor

FINISHED = 0
"""The journal says that the attempt has ended, whoever was at it."""
NOT_BEGUN = 74
"""The request cannot be read, or nothing can be written; nobody has claimed the attempt."""
CLAIMED = 75
"""Somebody else has claimed the attempt, and its journal does not say that it has ended."""
TOLD_TO_END = 128
"""This and the number of the signal: it was told to end before it was done."""

ENVIRONMENT = {**dict.fromkeys(limits.THREAD_VARIABLES, "1"), "MPLBACKEND": "Agg"}
"""What libraries read when they are loaded; a runner sets its pools to its cores later."""

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run(attempt_dir: Path) -> int:
    """Run an attempt to its end and return the exit code of this process.

    All children of this process are taken for the attempt's. Raises OSError when it cannot be
    claimed, ValueError when its request cannot be read.
    """
    # What follows imports numpy, which looks at the environment once.
    from ctxlib import cgroup
    from ctxlib.attempt import AttemptSupervisor
    from ctxlib.job_folder import read_request

    request = read_request(attempt_dir)
    if "umask" in request:  # that of the database's folder: here there may be another one
        os.umask(request["umask"])
    # They are waited for below, so that none comes at the wrong moment or is missed.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, *_ENDING})
    processes.adopt_orphans()
    cgroup.sweep()
    me = os.getpid()

    def leftovers() -> list[int]:
        return processes.descendants(me)

    attempt = AttemptSupervisor(attempt_dir, _start, leftovers, "alone")
    if not attempt.begin():
        return FINISHED if _has_ended(attempt_dir) else CLAIMED
    number = _to_the_end(attempt)
    if number is None:
        return FINISHED
    processes.kill_until_gone(leftovers)
    group = cgroup.of_attempt(attempt_dir, me)
    if group is not None:
        group.remove()
    return TOLD_TO_END + number


def _to_the_end(attempt: AttemptSupervisor) -> int | None:
    """Watch the attempt until it has ended; return the signal that was sent before, if one was."""
    while attempt.ended is None:
        told = signal.sigtimedwait({signal.SIGCHLD, *_ENDING}, attempt.check())
        # Of one that was suspended meanwhile Python may tell any number, as of a signal.
        if told is not None and told.si_signo in _ENDING:
            return told.si_signo
        for pid, wait_status in processes.ended_children():
            if pid == attempt.pid:  # others are orphans, which fall to this process too
                attempt.runner_ended(wait_status)
    return None


def _start(attempt_dir: Path, n: int) -> int:
    """Start runner `n`: forked, unless there are threads here, which a forked process misses."""
    from ctxlib import starting

    if starting.threads() > 1:
        return starting.spawn(attempt_dir, n)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        starting.end_with(lambda: _be_runner(attempt_dir, n, parent))
    return pid


def _be_runner(attempt_dir: Path, n: int, parent: int) -> int:
    from ctxlib import runner, starting
    from ctxlib.job_folder import read_request

    starting.enter(parent, attempt_dir)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD, *_ENDING})
    folder = Path(read_request(attempt_dir)["context"]).parent
    if folder.is_dir():  # without it the context cannot be loaded, which is said there
        os.chdir(folder)
    return runner.run(attempt_dir, n, None, None)


def _has_ended(attempt_dir: Path) -> bool:
    from ctxlib.journal import JournalReader

    return any(entry.kind == "ended" for entry in JournalReader(attempt_dir).read_watcher())


def main() -> NoReturn:
    """Run the attempt that the command line names; what cannot be begun is said on stderr."""
    parser = argparse.ArgumentParser(prog="ctxlib.alone", description=__doc__)
    parser.add_argument("attempt_dir", type=Path, metavar="ATTEMPT_DIR")
    folder = parser.parse_args().attempt_dir.absolute()
    os.environ.update(ENVIRONMENT)
    try:
        code = run(folder)
    except (OSError, ValueError, KeyError) as error:
        print(f"{folder} cannot be run: {type(error).__name__}: {error}", file=sys.stderr)
        code = NOT_BEGUN
    if code == CLAIMED:
        now = time.strftime("%H:%M:%S")
        print(f"# {now} {folder} is left to the process that has claimed it", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
