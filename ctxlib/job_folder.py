"""What is where in the folder of a job: its request, the folders of its attempts, their fragments.

The claim of an attempt is `ctxlib.claim`'s, its journals are `ctxlib.journal`'s.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

REQUEST = "job.json"
FRAGMENTS = "fragments"

CPUS, MEMORY = "RUNTABLE_CPUS", "RUNTABLE_MEMORY"
"""Environment variables with cores and bytes, for a request that leaves these to who starts it."""


def read_request(attempt_dir: Path) -> dict[str, Any]:
    """The request of the job that an attempt folder belongs to, as it is on this host.

    Raises OSError and ValueError.
    """
    request: dict[str, Any] = json.loads((attempt_dir.parent / REQUEST).read_bytes())
    return _as_seen_here(request, attempt_dir.parent)


def _as_seen_here(request: dict[str, Any], job_dir: Path) -> dict[str, Any]:
    """A request with paths as they are where the job's folder is `job_dir`, and with its limits.

    The database may be seen under another path on another host, or in a container.
    """
    for name, variable in (("cpus", CPUS), ("memory", MEMORY)):
        if request.get(name) is None and variable in os.environ:
            request = {**request, name: int(os.environ[variable])}
    there, here = str(request.get("database") or ""), str(job_dir.parent.parent)
    if job_dir.parent.name != "jobs" or there in ("", here):
        return request
    paths = {name: request.get(name) for name in ("database", "context", "log")}
    moved = {
        name: here + path[len(there) :]
        for name, path in paths.items()
        if isinstance(path, str) and (path == there or path.startswith(there + "/"))
    }
    return {**request, **moved}


def attempts(job_dir: Path) -> list[Path]:
    """The folders of all attempts there are, the first one first; none of a job that is gone."""
    try:
        with os.scandir(job_dir) as entries:
            names = [entry.name for entry in entries if _is_attempt(entry)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [job_dir / name for name in sorted(names, key=int)]


def fragment_path(attempt_dir: Path, name: object) -> Path | None:
    """Where the fragment is that a journal line names; None for what is no plain file name.

    Journals come from other hosts and people: no name in them leads out of the folder.
    """
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name:
        return None
    return attempt_dir / FRAGMENTS / name


def _is_attempt(entry: os.DirEntry[str]) -> bool:
    return entry.name.isascii() and entry.name.isdecimal() and entry.is_dir()
