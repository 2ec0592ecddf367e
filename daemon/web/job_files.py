"""`/api/logs`, `/api/progress`, `/api/result`, `/api/job-info`: what a job has left, and says."""

import asyncio
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from daemon.job_part import JobPart
from daemon.jobs.states import TERMINAL
from daemon.web.access import Viewer
from daemon.web.errors import Refusal
from daemon.web.jobs import JobId

ROUTER = APIRouter(tags=["jobs"])
LARGEST = 16 << 20
"""Bytes of a file of results at most."""
CHUNK = 1 << 16


@ROUTER.get("/job-info/{job_id}")
async def job_info(request: Request, caller: Viewer, job_id: JobId) -> dict[str, Any]:  # noqa: ARG001
    """A job in a few words: what it is for, and who has it."""
    job = await _job(request, job_id)
    state = await request.app.state.link.call("job-state", job=job_id)
    asked = job["request"]
    experiment = asked.get("experiment_name") or f"p{job['proposal']}"
    run = asked.get("run_name") or ("command" if job["command"] else f"r{job['run']}")
    return {
        "job_id": job_id,
        "job_name": asked.get("name") or f"{run}-{experiment}-damnit",
        "config_path": asked.get("config_path") or f"jobs/{job_id}/job.json",
        "target_host": state["worker_id"],
        "container_id": state.get("container_id"),
        "container_name": state.get("container_name"),
        "experiment_name": experiment,
        "run_name": run,
        "backend": job["backend"],
        "status": state["status"],
    }


@ROUTER.get("/progress/{job_id}")
async def progress(request: Request, caller: Viewer, job_id: JobId) -> dict[str, Any]:  # noqa: ARG001
    """How far a job is: what it has written itself, or which of its variables it is at."""
    job = await _job(request, job_id)
    path = _folder(request, job_id) / "progress" / "progress.json"
    own = await asyncio.to_thread(_own_json, path)
    return own or job["running"] or {"progress": "No updates yet."}


@ROUTER.get("/result/{job_id}")
async def result(request: Request, caller: Viewer, job_id: JobId) -> dict[str, Any]:  # noqa: ARG001
    """What came of a job: what it has written itself, or how each of its variables ended."""
    job = await _job(request, job_id)
    path = _folder(request, job_id) / "results" / "result.json"
    own = await asyncio.to_thread(_own_json, path)
    if own is not None:
        return own
    if job["state"] not in TERMINAL:
        return {"status": "pending", "message": "Result not ready yet."}
    return {"status": job["state"], "reason": job["reason"], "variables": job["results"]}


@ROUTER.get("/logs/{job_id}", response_class=StreamingResponse)
@ROUTER.get("/file-logs/{job_id}", response_class=StreamingResponse)
async def logs(request: Request, caller: Viewer, job_id: JobId) -> StreamingResponse:  # noqa: ARG001
    """What a job has printed."""
    job = await _job(request, job_id)
    paths = (_folder(request, job_id) / "logs" / f"{job_id}.log", Path(job["log"]))
    own, of_run = await asyncio.to_thread(lambda: [_open(path) for path in paths])
    if own is None and of_run is None:
        raise Refusal(404, "no_log", "Logs not available for this job")
    return StreamingResponse(_lines(own, of_run, job), media_type="text/plain; charset=utf-8")


async def _job(request: Request, job_id: str) -> dict[str, Any]:
    """All that is known of the job with this very id."""
    link = request.app.state.link
    await link.call("job-state", job=job_id)
    found: dict[str, Any] = await link.call("job", job=job_id)
    return found


def _folder(request: Request, job_id: str) -> Path:
    folder: Path = request.app.state.link.folder
    return folder / "jobs" / job_id


def _open(path: Path) -> IO[bytes] | None:
    """The file at `path`; None when it is no file: a link may lead anywhere, a pipe may wait."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return os.fdopen(fd, "rb")
    os.close(fd)
    return None


def _own_json(path: Path) -> dict[str, Any] | None:
    """The JSON object that a job has written; None for what is none."""
    file = _open(path)
    if file is None:
        return None
    with file:
        try:
            found = json.loads(file.read(LARGEST), parse_constant=str)
            json.dumps(found, ensure_ascii=False).encode()  # halves of characters cannot be sent
        except (OSError, ValueError, RecursionError):
            return None
    return found if isinstance(found, dict) else None


def _lines(own: IO[bytes] | None, of_run: IO[bytes] | None, job: dict[str, Any]) -> Iterator[bytes]:
    """What the job's own log has, and then what the log of its run has of it, piece by piece."""
    if own is not None:
        with own:
            while chunk := own.read(CHUNK):
                yield chunk
    if of_run is not None:
        with of_run:
            yield from _part(of_run, job)


def _part(log: IO[bytes], job: dict[str, Any]) -> Iterator[bytes]:
    """What a log has of a job, many lines at once: each piece goes through a thread."""
    part = JobPart(job["id"])
    piece = bytearray()
    begins, ours = True, False
    while line := log.readline(CHUNK):  # a line may be as long as the whole log
        if begins:
            ours = part.has(line, job["attempts"])
        begins = line.endswith(b"\n")
        if ours:
            piece += line
        if len(piece) >= CHUNK:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)
