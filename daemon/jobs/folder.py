"""Makes and clears the folder of a job, `jobs/<id>`; `ctxlib.job_folder` says what is where."""

import json
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxlib import claim
from ctxlib.job_folder import FRAGMENTS, REQUEST, attempts
from ctxlib.whole_file import remove_leftovers, write_whole

if TYPE_CHECKING:  # commands look at folders, and need no queue for that
    from daemon.jobs.job import Job

BEFORE = "before"
"""The folder in a job's folder with attempts that were over before the job was requeued."""


def new_id(now: float) -> str:
    """A new job id, such as 20261121-014455-3f9a2c; ids sort by the time (UTC) they are made."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{secrets.token_hex(3)}"


def attempt_folder(job: Path, number: int) -> Path:
    """The folder of attempt `number` of the job whose folder is `job`."""
    return job / str(number)


def process_log(folder: Path, proposal: int, run: int) -> Path:
    """The file in the database `folder` with all output of the jobs of a run."""
    return folder / "process_logs" / f"r{run}-p{proposal}.out"


def log_of(folder: Path, job: "Job") -> Path:
    """The file in the database `folder` with the output of a job: a command has one of its own."""
    if job.command is not None:
        return folder / "process_logs" / f"{job.id}.out"
    return process_log(folder, job.proposal, job.run)


def write_request(job: Path, request: Mapping[str, Any]) -> None:
    """Write `job.json`, whole or not at all."""
    job.mkdir(parents=True, exist_ok=True)
    remove_leftovers(job / REQUEST)  # only who holds the folder writes it
    write_whole(job / REQUEST, json.dumps(request, indent=1).encode() + b"\n")


def read_request(job: Path) -> dict[str, Any] | None:
    """What `job.json` says; None when it is not there or, after a power cut, not whole."""
    try:
        request = json.loads((job / REQUEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return request if isinstance(request, dict) else None


def new_attempt(job: Path, number: int) -> Path:
    """Make the folder of attempt `number`. Raises FileExistsError when it is there already."""
    folder = attempt_folder(job, number)
    folder.mkdir(parents=True)
    (folder / FRAGMENTS).mkdir()
    return folder


def set_aside(job: Path, first: int) -> None:
    """Move the attempts before `first` out of the way, to `before/`: nothing of them counts now."""
    for attempt in attempts(job):
        if int(attempt.name) < first:
            (job / BEFORE).mkdir(exist_ok=True)
            attempt.rename(job / BEFORE / attempt.name)
            shutil.rmtree(job / BEFORE / attempt.name / FRAGMENTS, ignore_errors=True)


def remove_attempt(attempt: Path) -> None:
    """Remove the folder of an attempt that never ran; nothing happens when it is gone already."""
    if attempt.exists():
        shutil.rmtree(attempt)


def drop_fragments(job: Path, last: int) -> None:
    """Remove the fragments of the attempts up to `last`, when the run file has what was in them.

    With them goes the claim that a killed process had not yet published. Those of a later attempt,
    for which the job has just been requeued, stay.
    """
    for attempt in attempts(job):
        if int(attempt.name) > last:
            continue
        fragments = attempt / FRAGMENTS
        if fragments.exists():
            shutil.rmtree(fragments)
        claim.remove_leftovers(attempt)


def sources_signature(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of the Python files in `folder`: differs when one was edited."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                try:
                    info = entry.stat()
                except FileNotFoundError:
                    continue  # renamed by an editor just now, or a link to nothing
                found.append((entry.name, info.st_size, info.st_mtime_ns))
    return tuple(sorted(found))
