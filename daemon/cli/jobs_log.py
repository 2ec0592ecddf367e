"""`runtable jobs log`: what a job has printed, and what it prints now."""

import sys
import time
from pathlib import Path
from typing import Any

import click

from daemon.cli.folder import connect, database_folder, in_option
from daemon.cli.log_tail import LogTail
from daemon.job_part import JobPart

LOOK_SECONDS = 0.3
"""How often to look for new lines."""
ASK_SECONDS = 2.0
"""How often to ask whether the job has ended."""


@click.command("log")
@click.argument("job", metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@in_option
def command(job: str, directory: str | None, *, follow: bool) -> None:
    """Print what a job has printed.

    The log of a run has the output of all its jobs; this is the part of one. An id may be
    shortened to its beginning.
    """
    folder = database_folder(directory)
    found = _ask(folder, job)
    path, part = Path(found["log"]), JobPart(found["id"])
    printed = 0
    tail = LogTail(path)
    while True:
        printed += _print(tail, part, found)
        if not follow or found["settled"]:
            break
        printed += _print_until_asked(tail, part, found)
        found = _ask_again(folder, found)
    if printed == 0:
        click.echo(_nothing(found, path), err=True)


def _print_until_asked(tail: LogTail, part: JobPart, found: dict[str, Any]) -> int:
    printed, deadline = 0, time.monotonic() + ASK_SECONDS
    while time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
        printed += _print(tail, part, found)
    return printed


def _ask(folder: Path, job: str) -> dict[str, Any]:
    with connect(folder) as service:
        found: dict[str, Any] = service.call("job", job=job)
    return found


def _ask_again(folder: Path, found: dict[str, Any]) -> dict[str, Any]:
    """How the job is now; as before, while the daemon is being restarted."""
    try:
        return _ask(folder, found["id"])
    except click.ClickException:
        return found


def _print(tail: LogTail, part: JobPart, found: dict[str, Any]) -> int:
    """Print the new lines of the job; how many there were."""
    printed = 0
    for line in tail.lines():
        if part.has(line, found["attempts"]):
            sys.stdout.buffer.write(line)
            printed += 1
    sys.stdout.buffer.flush()
    return printed


def _nothing(found: dict[str, Any], path: Path) -> str:
    if found["attempt"] == 0:
        why = found["waiting_reason"] or found["reason"]
        return f"Job {found['id']} is {found['state']}" + (f": {why}" if why else "")
    return f"Nothing of job {found['id']} is in {path}"
