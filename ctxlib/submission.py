"""Puts results that were made elsewhere into a database, by way of its daemon."""

from __future__ import annotations

import json
import operator
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, SupportsIndex, cast

from ctxlib import claim, summaries
from ctxlib.column_names import trouble_with
from ctxlib.errors import (
    LONGEST_TRACEBACK,
    Skip,
    UnsavableError,
    error_text,
    shortened,
    user_traceback,
)
from ctxlib.job_folder import FRAGMENTS, REQUEST
from ctxlib.journal import JournalWriter, file_name
from ctxlib.places import SUBMITTED, find_folder
from ctxlib.recorder import save_result
from ctxlib.table_file import TableFile
from ctxlib.whole_file import sync


def submit(
    proposal: int,
    run: int,
    variables: Mapping[str, Any],
    *,
    provenance: str,
    errors: Mapping[str, BaseException] | None = None,
    damnit_dir: str | os.PathLike[str] | None = None,
) -> str:
    """Add results to the database of a proposal; they show once its daemon has taken them in.

    `variables` are values by name: anything that a variable may return, a `Cell` for units, a
    summary or a colour. `errors` are exceptions by name, which show as those of variables do.
    `provenance` says in the table what made the results. The database is that of the proposal
    unless `damnit_dir` names its folder. What was there of these variables is replaced; what is
    submitted last holds.

    Returns the id of the job that was made of them, which is on disk then: all or, when this is
    interrupted, nothing. Raises TypeError for what is not of the kind that is asked for, ValueError
    for names and numbers that cannot be and a proposal that is not the database's, UnsavableError
    for a value that cannot be saved, FileNotFoundError and NotFoundError for a database that is not
    there, and OSError.
    """
    proposal, run = _number("proposal", proposal), _number("run", run)
    folder = find_folder(proposal if damnit_dir is None else damnit_dir)
    failed = dict(errors or {})
    names = [*variables, *failed]
    _check(TableFile(folder / "runs.sqlite"), proposal, names, provenance)
    _check_errors(failed)
    job_id = _new_id()
    request = {
        "id": job_id,
        "proposal": proposal,
        "run": run,
        "data": "all",
        "variables": names,
        "provenance": provenance,
    }

    def write(attempt: Path, journal: JournalWriter, host: str) -> None:
        for name, value in variables.items():
            origin = {
                "provenance": provenance,
                "job": job_id,
                "attempt": 1,
                "host": host,
                "time": time.time(),
            }
            _write_value(attempt, journal, name, value, origin)
        for name, error in failed.items():
            _write_error(journal, name, error)

    hand_in(folder, request, write)
    return job_id


def hand_in(
    folder: Path, request: Mapping[str, Any], write: Callable[[Path, JournalWriter, str], None]
) -> None:
    """Put a whole job into the database `folder`, for its daemon to take in; all or nothing.

    `request` is its job.json. `write(attempt, journal, host)` writes its results: into the journal,
    and as fragments in the attempt's folder. When this returns it is on disk.
    """
    job_id = request["id"]
    waiting = folder / SUBMITTED
    waiting.mkdir(exist_ok=True)
    # Hidden until it is whole: the daemon takes no folder whose name begins with a dot.
    new = waiting / f".{job_id}"
    new.mkdir()
    try:
        (new / REQUEST).write_text(json.dumps(request, indent=1) + "\n")
        _write_attempt(new / "1", write)
        _share(waiting, folder)
        _secure(new, folder)
        new.rename(waiting / job_id)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    sync(waiting)


def _number(what: str, given: object) -> int:
    try:
        number = operator.index(cast(SupportsIndex, given))
    except TypeError:
        raise TypeError(f"{what} is {given!r}: give a whole number") from None
    if not 0 <= number < 2**63:
        raise ValueError(f"{what} is {number}, which no {what} can be")
    return number


def _new_id() -> str:
    """An id that comes after those that were made before, within a second too."""
    seconds, rest = divmod(time.time_ns(), 10**9)
    moment = time.strftime("%Y%m%d-%H%M%S", time.gmtime(seconds))
    return f"{moment}-{rest // 1000:05x}{secrets.token_hex(1)[0]}"


def _check_errors(errors: Mapping[str, object]) -> None:
    for name, error in errors.items():
        if not isinstance(error, BaseException):
            raise TypeError(f"the error of {name} is {error!r}: give an exception")


def _check(table: TableFile, proposal: int, names: list[str], provenance: str) -> None:
    if not isinstance(provenance, str):
        raise TypeError(f"provenance is {provenance!r}: give a text")
    if not provenance.strip():
        raise ValueError("provenance is empty: give the name of what made these results")
    if not names:
        raise ValueError("there is nothing to submit: give variables or errors")
    own = table.setting("proposal")
    if own != proposal:
        raise ValueError(
            f"{table.path.parent} is the database of proposal {own}, not of {proposal}"
        )
    if len(set(names)) < len(names):
        twice = ", ".join(sorted({name for name in names if names.count(name) > 1}))
        raise ValueError(f"{twice}: give a value or an error, not both")
    editable = {name for name, column in table.columns().items() if column.type is not None}
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{name!r} is no name of a variable: give a text")
        trouble = trouble_with(name)
        if trouble is not None:
            raise ValueError(trouble)
        if name in editable:
            raise ValueError(f"{name!r} is a variable that people fill in; use another name")


def _write_attempt(attempt: Path, write: Callable[[Path, JournalWriter, str], None]) -> None:
    """Write what a runner would have written of the results that `write` gives."""
    (attempt / FRAGMENTS).mkdir(parents=True)
    made = claim.make(attempt, claim.SUBMITTED)
    assert made is not None, "the folder is new"
    head = {key: getattr(made, key) for key in ("host", "boot_id", "pid", "pid_start", "user")}
    watcher = JournalWriter(attempt / file_name(0))
    runner = JournalWriter(attempt / file_name(1))
    try:
        watcher.write("claimed", **head, mode=made.mode)
        write(attempt, runner, made.host)
        watcher.write("ended", status="finished", reason="")
    finally:
        watcher.close()
        runner.close()


def _write_value(
    attempt: Path, journal: JournalWriter, name: str, value: object, origin: dict[str, Any]
) -> None:
    try:
        prepared = summaries.prepare(value, log=lambda _: None)
    except UnsavableError as error:
        raise UnsavableError(f"{name}: {error}") from error
    saved = save_result(attempt, name, prepared, origin)
    use = {"duration": 0.0, "cpu": 0.0, "memory": None}
    journal.write("finished", variable=name, **saved, **use, origin=origin)


def _write_error(journal: JournalWriter, name: str, error: BaseException) -> None:
    trace = "" if isinstance(error, Skip) else user_traceback(error)
    described = {
        "type": type(error).__name__,
        "message": shortened(error_text(error)),
        "traceback": shortened(trace, LONGEST_TRACEBACK),
    }
    journal.write("failed", variable=name, error=described, duration=0.0)


def _secure(new: Path, like: Path) -> None:
    """Have all of a folder on disk, for everyone who may use the database."""
    for path in [new, *new.rglob("*")]:
        _share(path, like)
        sync(path)


def _share(path: Path, like: Path) -> None:
    """Give `path` the permissions of the folder `like`, so that the daemon may move it."""
    if path.stat().st_uid == os.getuid():  # others' folders are theirs to open
        mode = stat.S_IMODE(like.stat().st_mode) & 0o777
        path.chmod(mode | 0o700 if path.is_dir() else mode & 0o666 | 0o600)
