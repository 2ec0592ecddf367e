"""The log of jobs on the terminal as it is written, while a command waits for them."""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from daemon.cli.progress import Job, Waits, job_line
from daemon.job_part import CUT
from daemon.jobs.folder import process_log

LOOK_SECONDS = 0.1
"""How often to look for what was written."""
SEARCHED = 1 << 20
"""How many bytes before its end a log is searched for the beginning of a job."""
CHUNK = 1 << 20
"""How many bytes of a log to show at once."""


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
        self._shown: dict[str, _Tail] = {}

    def update(self, job: Job) -> None:
        """Begin to show the log of `job`, or end it, as the job has."""
        begun = job.state not in ("queued", "canceled")
        if begun and job.proposal is not None and job.id not in self._shown:
            log = process_log(self._folder, job.proposal, job.run)
            self._shown[job.id] = _Tail(log, job.id)
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


class _Tail:
    """Writes what is added to one log to standard output, in a thread, until it is closed."""

    def __init__(self, log: Path, job_id: str) -> None:
        self._log = log
        self._header = re.compile(rb"(?m)^#.* job %s[,\s]" % re.escape(job_id).encode())
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Show what is there, and end."""
        self._ending.set()
        self._thread.join()

    def _show(self) -> None:
        position: int | None = None
        while True:
            last = self._ending.wait(LOOK_SECONDS)
            with suppress(FileNotFoundError):  # until the job has said something
                position = self._write_from(position)
            if last:
                return

    def _write_from(self, position: int | None) -> int | None:
        """Write what follows `position`; None while the beginning of the job is not there."""
        with self._log.open("rb") as file:
            if position is None:
                begins = max(0, file.seek(0, os.SEEK_END) - SEARCHED)
                file.seek(begins)
                found = self._header.search(file.read(SEARCHED))
                if found is None:
                    return None
                position = begins + found.start()
            if (end := file.seek(0, os.SEEK_END)) < position:
                click.echo(CUT, nl=False)
                position = end
            file.seek(position)
            while text := file.read(CHUNK):
                click.echo(text, nl=False)
                position += len(text)
        return position
