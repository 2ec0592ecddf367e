"""What the journals of a job say of each of its variables, for people."""

from pathlib import Path
from typing import Any

from ctxlib.job_folder import attempts
from ctxlib.journal import Entry, JournalReader

SKIP = "Skip"
"""The type of the error of a variable that was skipped."""


def variables(job_dir: Path) -> list[dict[str, Any]]:
    """The variables of a job, in the order of its plan: name, status, attempt, duration, error.

    A status is waiting, running, finished, failed or skipped; the last word on each holds. A job
    whose folder is gone has none.
    """
    found: dict[str, dict[str, Any]] = {}
    for attempt in attempts(job_dir):
        for entry in JournalReader(attempt).read():
            if entry.kind == "plan":
                for name in entry.fields.get("order", ()):
                    found.setdefault(name, _said(name, "waiting"))
            elif (said := _of(entry, int(attempt.name))) is not None:
                found[said["variable"]] = said
    return list(found.values())


def _of(entry: Entry, attempt: int) -> dict[str, Any] | None:
    """What a line says of a variable; None for lines that are about none."""
    fields = entry.fields
    name = fields.get("variable")
    if not isinstance(name, str):
        return None
    if entry.kind == "started":
        return _said(name, "running", attempt)
    if entry.kind == "finished":
        return _said(name, "finished", attempt, fields.get("duration"))
    if entry.kind == "died":
        return _said(name, "failed", attempt, error=str(fields.get("reason")))
    if entry.kind != "failed":
        return None
    error = fields.get("error") or {}
    skipped = error.get("type") == SKIP
    text = error.get("message") if skipped else f"{error.get('type')}: {error.get('message')}"
    return _said(name, "skipped" if skipped else "failed", attempt, fields.get("duration"), text)


def _said(
    name: str,
    status: str,
    attempt: int | None = None,
    duration: float | None = None,
    error: str | None = None,
) -> dict[str, Any]:
    said = {"variable": name, "status": status, "attempt": attempt}
    return {**said, "duration": duration, "error": error}
