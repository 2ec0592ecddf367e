"""Jobs for tests of what runs them: a request on disk, and what its journals say."""

import json
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

from ctxlib.journal import Entry, JournalReader


def make_job(
    database: Path,
    job: str = "j1",
    *,
    context: str = "",
    context_path: Path | None = None,
    **request: Any,
) -> Path:
    """Write a job's request, and `context` to context.py unless it is empty; return its attempt."""
    if context:
        (database / "context.py").write_text(textwrap.dedent(context))
    folder = database / "jobs" / job
    (folder / "1").mkdir(parents=True)
    standard = {
        "id": job,
        "proposal": 1234,
        "run": 1,
        "data": "raw",
        "variables": None,
        "match": [],
        "part": "",
        "inputs": [],
        "database": str(database),
        "context": str(context_path or database / "context.py"),
        "proposal_path": None,
        "mock": True,
        "cpus": 1,
        "memory": None,
        "timeout": 60,
        "log": str(database / "process_logs" / "r1-p1234.out"),
    }
    (folder / "job.json").write_text(json.dumps(standard | request))
    return folder / "1"


def entries(attempt_dir: Path, *kinds: str) -> list[Entry]:
    """All lines of an attempt's journals, or those of some kinds."""
    found = JournalReader(attempt_dir).read()
    return [entry for entry in found if not kinds or entry.kind in kinds]


def ended(attempt_dir: Path) -> dict[str, Any] | None:
    """The fields of the line `ended`, once it is there."""
    found = entries(attempt_dir, "ended")
    return found[0].fields if found else None


def values(attempt_dir: Path) -> dict[str, Any]:
    """Summary values of the finished variables."""
    return {
        entry.fields["variable"]: (entry.fields["summary"] or {}).get("value")
        for entry in entries(attempt_dir, "finished")
    }


def errors(attempt_dir: Path) -> dict[str, str]:
    """Type and text of what failed, was skipped or died, by variable."""
    found = {}
    for entry in entries(attempt_dir, "failed", "died"):
        if entry.kind == "failed":
            error = entry.fields["error"]
            found[entry.fields["variable"]] = f"{error['type']}: {error['message']}"
        elif entry.fields["variable"] is not None:
            found[entry.fields["variable"]] = f"{entry.fields['code']}: {entry.fields['reason']}"
    return found


def times_started(attempt_dir: Path) -> Counter[str]:
    """How often each variable was begun."""
    return Counter(entry.fields["variable"] for entry in entries(attempt_dir, "started"))
