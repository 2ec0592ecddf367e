"""Whether a folder is a whole job that was submitted: nothing in it is believed unseen."""

import json
import os
import re
from pathlib import Path
from typing import Any

from ctxlib.column_names import trouble_with
from ctxlib.job_folder import REQUEST, fragment_path
from ctxlib.journal import Entry, JournalReader
from ctxlib.summary import Summary
from daemon.jobs.job import SUBMISSION, Work

_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}")
_KINDS = ("claimed", "finished", "failed", "ended")


class NotAJob(ValueError):
    """A folder is no whole job; says why."""


def check(path: Path, proposal: int | None) -> tuple[Work, str]:
    """Return what the job in the folder `path` has done, and its provenance.

    `proposal` is that of the database. Raises NotAJob, or OSError when it cannot be looked at.
    """
    if path.is_symlink() or not path.is_dir():
        raise NotAJob("it is no folder; use ctxlib.submit")
    for part in path.rglob("*"):
        if part.is_symlink() or not (part.is_dir() or part.is_file()):
            raise NotAJob(f"{part.relative_to(path)} is neither a folder nor a plain file")
    if not os.access(path, os.W_OK):
        raise NotAJob("this user may not move it: its group needs write permission")
    request = _request(path)
    if request["proposal"] != proposal:
        raise NotAJob(f"it is for proposal {request['proposal']}, this database for {proposal}")
    try:
        _check_journals(path / "1", request["variables"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, NotAJob):
            raise
        raise NotAJob(f"its journals make no sense: {type(error).__name__}: {error}") from error
    work = Work(
        proposal=request["proposal"],
        run=request["run"],
        data="all",
        source=SUBMISSION,
        live=True,
        variables=tuple(request["variables"]),
    )
    return work, request["provenance"]


def _request(path: Path) -> dict[str, Any]:
    try:
        request = json.loads((path / REQUEST).read_bytes())
    except FileNotFoundError:
        raise NotAJob(f"it has no {REQUEST}; use ctxlib.submit") from None
    except (ValueError, RecursionError) as error:
        raise NotAJob(f"its {REQUEST} is no JSON: {error}") from error
    if not isinstance(request, dict):
        raise NotAJob(f"its {REQUEST} is no JSON object")
    if request.get("id") != path.name or _ID.fullmatch(path.name) is None:
        raise NotAJob(f"its id {request.get('id')!r} is not the name of the folder, or no id")
    for key in ("proposal", "run"):
        if type(request.get(key)) is not int or not 0 <= request[key] < 2**63:
            raise NotAJob(f"{key} is {request.get(key)!r}, no number of one")
    if not isinstance(request.get("provenance"), str) or not request["provenance"]:
        raise NotAJob("it does not say its provenance")
    names = request.get("variables")
    if not isinstance(names, list) or not names:
        raise NotAJob("it has no list of variables")
    for name in names:
        trouble = "a name is no text" if not isinstance(name, str) else trouble_with(name)
        if trouble is not None:
            raise NotAJob(trouble)
    return request


def _check_journals(attempt: Path, names: list[str]) -> None:
    """Every line is one that a submitted job has, and every variable has its end."""
    entries = JournalReader(attempt).read()
    lines = sum(file.read_bytes().count(b"\n") for file in attempt.glob("journal.*.jsonl"))
    if len(entries) != lines:
        raise NotAJob(f"{lines - len(entries)} of {lines} lines of its journals cannot be read")
    strange = {entry.kind for entry in entries} - {*_KINDS}
    if strange:
        raise NotAJob(f"its journals have lines of kind {', '.join(sorted(map(str, strange)))}")
    if not any(e.kind == "ended" and e.fields["status"] == "finished" for e in entries):
        raise NotAJob("its journals do not say that it has finished")
    results = [entry for entry in entries if entry.kind in ("finished", "failed")]
    if sorted(entry.fields["variable"] for entry in results) != sorted(names):
        raise NotAJob("its journals do not tell of exactly the variables that it names")
    for entry in results:
        _check_result(attempt, entry)


def _check_result(attempt: Path, entry: Entry) -> None:
    fields = entry.fields
    if entry.kind == "failed":
        if not all(isinstance(fields["error"][key], str) for key in ("type", "message")):
            raise NotAJob(f"the error of {fields['variable']} is no text")
        return
    Summary.from_json(fields["summary"])
    name = fields["fragment"]
    if name is None:
        return
    fragment = fragment_path(attempt, name)
    if fragment is None or not fragment.is_file():
        raise NotAJob(f"the fragment {name!r} of {fields['variable']} is not there")
