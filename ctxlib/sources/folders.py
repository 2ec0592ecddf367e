"""Runs that are folders of files: where they are and what is in them, for sources to use."""

import getpass
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ctxlib.run_pattern import DEFAULT, RunPattern
from ctxlib.sources import Request, RunUnavailable

ListFiles = Callable[[Path], list[Path]]
"""Gives the data files in a folder; none for a folder that is not there. Raises OSError."""


def proposal_path(request: Request) -> Path:
    """The proposal's folder; RunUnavailable when it is not known."""
    if request["proposal_path"] is None:
        raise RunUnavailable(
            f"the folder of proposal {request['proposal']} was not found; "
            "set it with db-config proposal_path"
        )
    return Path(request["proposal_path"])


def pattern(request: Request) -> RunPattern:
    """The pattern by which the request's runs lie below the proposal's folder."""
    # Requests that were written before there was a choice do not have it.
    return RunPattern(request.get("run_pattern", DEFAULT.text))


def run_folder(request: Request, data: str) -> Path:
    """The folder with the run's `data`, raw or proc, whether it is there or not."""
    return proposal_path(request) / pattern(request).folder(data, request["run"])


def available_data(request: Request, list_files: ListFiles) -> str:
    """`all` where the run has proc data apart from its raw data, else `raw`.

    Raises RunUnavailable when its folder cannot be read.
    """
    apart = "proc" in pattern(request).kinds
    return "all" if apart and _listed(list_files, run_folder(request, "proc")) else "raw"


def data_files(request: Request, list_files: ListFiles, kind: str) -> dict[str, list[Path]]:
    """The files to read, by raw and proc: raw for raw jobs, both for the others.

    Raises RunUnavailable when there are none, or a folder cannot be read; `kind` says there what
    they are, as `*.h5`.
    """
    wanted = ("raw",) if request["data"] == "raw" else pattern(request).kinds
    folders = {data: run_folder(request, data) for data in wanted}
    files = {data: _listed(list_files, folder) for data, folder in folders.items()}
    if any(files.values()):
        return {data: found for data, found in files.items() if found}
    there = [folder for folder in folders.values() if folder.is_dir()]
    if not there:
        raise RunUnavailable(f"there is no folder {' or '.join(map(str, folders.values()))}")
    raise RunUnavailable(f"{' and '.join(map(str, there))} has no data files ({kind})")


def _listed(list_files: ListFiles, folder: Path) -> list[Path]:
    try:
        return list_files(folder)
    except OSError as error:
        what = error.filename or folder
        raise RunUnavailable(f"{what} cannot be read by {_user()}: {error.strerror}") from error


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no variable names it, and the machine has no such user
        return str(os.getuid())


def oldest(files: Iterable[Path]) -> float | None:
    """The mtime of the oldest file, in seconds since the epoch; None without files."""
    times = []
    for file in files:
        try:
            times.append(file.stat().st_mtime)
        except FileNotFoundError:
            # Being moved away; whoever reads it will say so.
            continue
    return min(times, default=None)


def where(files: Mapping[str, list[Path]]) -> str:
    """The folders that `data_files` has found files in, in words."""
    return " and ".join(os.path.commonpath([f.parent for f in found]) for found in files.values())
