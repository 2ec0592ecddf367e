"""The log of jobs on the terminal as it is written, while a command waits for them."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from daemon.cli.log_tail import LogTail
from daemon.cli.progress import Job, Waits, job_line
from daemon.jobs.folder import process_log

LOOK_SECONDS = 0.1
"""How often to look for what was written."""


@contextmanager
def live_logs(folder: Path) -> Iterator["LiveLogs"]:
    """Shows the logs of jobs in the database `folder`, on standard output."""
    logs = LiveLogs(folder)
    try:
        yield logs
    finally:
        logs.close()


class LiveLogs(Waits):
    """Shows each job's log from its beginning to its end, then how the job has ended."""

    def __init__(self, folder: Path) -> None:
        """Begin with no job."""
        super().__init__()
        self._folder = folder
        self._shown: dict[str, _Shown] = {}

    def update(self, job: Job) -> None:
        """Begin to show the log of `job`, or end it, as the job has."""
        begun = job.state not in ("queued", "canceled")
        if begun and job.proposal is not None and job.id not in self._shown:
            log = process_log(self._folder, job.proposal, job.run)
            self._shown[job.id] = _Shown(log, job.id)
        if job.ended:
            if job.id in self._shown:
                self._shown[job.id].close()
            self._say(job_line(job))
        else:
            super().update(job)

    def close(self) -> None:
        """Show no more."""
        for tail in self._shown.values():
            tail.close()


def beginning(job: str) -> re.Pattern[bytes]:
    """What a runner writes into a run's log when it begins with `job`."""
    return re.compile(rb"(?m)^#.* job %s[,\s]" % re.escape(job).encode())


class _Shown:
    """Writes what is added to one log to standard output, in a thread, until it is closed."""

    def __init__(self, log: Path, job_id: str) -> None:
        self._log = log
        self._beginning = beginning(job_id)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Show what is there, and end."""
        self._ending.set()
        self._thread.join()

    def _show(self) -> None:
        tail, begun, last = LogTail(self._log), False, False
        while not last:
            last = self._ending.wait(LOOK_SECONDS)
            begun = begun or tail.skip_to(self._beginning)
            for piece in tail.pieces() if begun else ():
                click.echo(piece, nl=False)
