"""European XFEL runs, opened with extra_data."""

import contextlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctxlib.sources import OpenedRun, RunUnavailable

# extra_data starts worker processes to open files it has no index of; for fewer than this many,
# that takes longer than opening them.
_MANY_FILES = 64


def preload() -> None:
    """Import extra_data where it can be; opening the run says what is wrong otherwise.

    And xarray, which it imports late, when a variable first asks for labelled data.
    """
    if importlib.util.find_spec("extra_data") is not None:
        with contextlib.suppress(Exception):
            import extra_data  # noqa: F401
            import xarray  # noqa: F401


def available_data(request: Mapping[str, Any]) -> str:
    """`all` where the run has proc data, else `raw`."""
    folder = _proposal_path(request) / "proc" / _run_name(request)
    return "all" if _data_files(folder) else "raw"


def open_run(request: Mapping[str, Any]) -> OpenedRun:
    """Open raw data for raw jobs, raw and proc together for the others where proc exists.

    Every data file has to be readable: results of half a run would look like those of a whole one.
    Raises RunUnavailable.
    """
    folders = _folders(request)
    files = [file for folder in folders.values() for file in _data_files(folder)]
    start = _oldest(files)
    if importlib.util.find_spec("extra_data") is None:
        raise RunUnavailable(
            "the context's Python has no extra_data to open the run with; "
            "install it there (pip install extra_data) or set context_python",
            start,
        )
    import extra_data

    data = "all" if len(folders) == 2 else next(iter(folders))
    try:
        run = extra_data.open_run(
            _proposal_path(request),
            request["run"],
            data=data,
            parallelize=len(files) >= _MANY_FILES,
        )
    except FileNotFoundError as error:
        raise RunUnavailable(f"the run vanished while it was opened: {error}", start) from error
    except Exception as error:
        # extra_data says "All HDF5 files specified are unusable" with a plain Exception.
        _refuse_unreadable(files, start)
        raise RunUnavailable(f"{_where(folders)} cannot be opened: {error}", start) from error
    if len(run.files) < len(files):
        _refuse_unreadable(files, start)
    return OpenedRun(run, _first_train(run) or start)


def _proposal_path(request: Mapping[str, Any]) -> Path:
    if request["proposal_path"] is None:
        raise RunUnavailable(
            f"the folder of proposal {request['proposal']} was not found; "
            "set it with db-config proposal_path"
        )
    return Path(request["proposal_path"])


def _run_name(request: Mapping[str, Any]) -> str:
    return f"r{request['run']:04d}"


def _folders(request: Mapping[str, Any]) -> dict[str, Path]:
    """The folders to read, by kind of data; RunUnavailable when there is nothing in them."""
    wanted = ["raw"] if request["data"] == "raw" else ["raw", "proc"]
    root, name = _proposal_path(request), _run_name(request)
    folders = {data: root / data / name for data in wanted}
    found = {data: folder for data, folder in folders.items() if _data_files(folder)}
    if found:
        return found
    missing = [str(folder) for folder in folders.values() if not folder.is_dir()]
    if len(missing) == len(folders):
        raise RunUnavailable(f"there is no folder {' or '.join(missing)}")
    empty = _where({d: f for d, f in folders.items() if f.is_dir()})
    raise RunUnavailable(f"{empty} has no data files (*.h5)")


def _data_files(folder: Path) -> list[Path]:
    try:
        entries = list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(f for f in entries if f.suffix == ".h5" and f.name.lower() != "overview.h5")


def _oldest(files: list[Path]) -> float | None:
    times = []
    for file in files:
        try:
            times.append(file.stat().st_mtime)
        except FileNotFoundError:
            # Being moved away; extra_data will say so if it needs it.
            continue
    return min(times, default=None)


def _refuse_unreadable(files: list[Path], start: float | None) -> None:
    import h5py

    for file in files:
        try:
            h5py.File(file, "r").close()
        except OSError as error:
            raise RunUnavailable(f"{file} cannot be read ({error})", start) from error


def _first_train(run: Any) -> float | None:
    """Time of the first train; None for files of before format 1.0, which have no times."""
    import numpy as np

    if not len(run.train_ids):
        return None
    first = run.select_trains(np.s_[:1]).train_timestamps()[0]
    if np.isnat(first):
        return None
    return float(first.astype("datetime64[ns]").astype(np.int64)) / 1e9


def _where(folders: Mapping[str, Path]) -> str:
    return " and ".join(os.fspath(folder) for folder in folders.values())
