"""Jobs that the queue does not know any more: what their folders have left is not lost.

Somebody deleted the queue's database, or put an older one in its place. A job that was begun and
whose results are not in the run file yet, as its fragments are still there, is entered again.
"""

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ctxlib import claim
from ctxlib.job_folder import FRAGMENTS, attempts
from ctxlib.loaded import part_of
from daemon.jobs import folder
from daemon.jobs.job import LOCAL, SEQUENTIAL, Work
from daemon.jobs.outside import Outside
from daemon.jobs.queue import Queue
from daemon.jobs.trouble import insist

FOUND = "found"
"""The source of such a job."""


async def adopt(queue: Queue, outside: Outside) -> None:
    """Enter the jobs in the folder that the queue does not know, each with its last attempt."""
    known = await insist(queue.ids, "reading the queue", outside.log)
    found = await asyncio.to_thread(lambda: list(_strays(outside.folder / "jobs", known)))
    for job, attempt, request in found:
        try:
            work = _work(request)
        except (KeyError, TypeError, ValueError) as error:
            outside.log.warning("%s cannot be entered again: %r", job, error)
            continue
        why = "its folder was found, and the queue did not know it"
        entered = await queue.adopt(work, job, why, attempt)
        outside.log.warning("%s: %s", entered.name, why)


def _strays(jobs: Path, known: Iterable[str]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Ids of jobs with their last attempt and their request."""
    names = {path.name for path in jobs.iterdir()} if jobs.is_dir() else set()
    for name in sorted(names.difference(known)):
        begun = [path for path in attempts(jobs / name) if claim.exists(path)]
        request = folder.read_request(jobs / name)
        if (
            begun
            and request is not None
            and request.get("command") is None
            and (begun[-1] / FRAGMENTS).is_dir()
        ):
            yield name, int(begun[-1].name), request


def _work(request: dict[str, Any]) -> Work:
    variables = request["variables"]
    return Work(
        proposal=int(request["proposal"]),
        run=int(request["run"]),
        data=request["data"],
        source=FOUND,
        live=False,
        variables=None if variables is None else tuple(variables),
        match=tuple(request["match"]),
        params=request.get("params") or {},
        part=part_of(request),
        mock=bool(request.get("mock")),
        backend=LOCAL if request.get("backend") == SEQUENTIAL else request.get("backend", LOCAL),
        inputs=tuple(request["inputs"]),
    )
