"""European XFEL runs, opened with extra_data."""

import contextlib
import errno
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ctxlib.run_pattern import DEFAULT
from ctxlib.sources import OpenedRun, Request, RunUnavailable, folders

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


def available_data(request: Request) -> str:
    """`all` where the run has proc data, else `raw`."""
    return folders.available_data(request, _data_files)


def open_run(request: Request) -> OpenedRun:
    """Open raw data for raw jobs, raw and proc together for the others where proc exists.

    Every data file has to be readable: results of half a run would look like those of a whole one.
    Raises RunUnavailable.
    """
    found = folders.data_files(request, _data_files, "*.h5")
    files = [file for some in found.values() for file in some]
    start = folders.oldest(files)
    if importlib.util.find_spec("extra_data") is None:
        raise RunUnavailable(
            "the context's Python has no extra_data to open the run with; "
            "install it there (pip install extra_data) or set context_python",
            start,
        )
    try:
        run = _open(request, list(found), parallelize=len(files) >= _MANY_FILES)
    except FileNotFoundError as error:
        raise RunUnavailable(f"the run vanished while it was opened: {error}", start) from error
    except Exception as error:
        # extra_data says "All HDF5 files specified are unusable" with a plain Exception.
        _refuse_unreadable(files, start)
        raise RunUnavailable(f"{folders.where(found)} cannot be opened: {error}", start) from error
    if len(run.files) < len(files):
        _refuse_unreadable(files, start)
    return OpenedRun(run, _first_train(run) or start)


def _open(request: Request, kinds: list[str], *, parallelize: bool) -> Any:
    """Open the run's data of these kinds, also where extra_data cannot keep its index of them."""
    try:
        return _open_kinds(request, kinds, parallelize=parallelize)
    except OSError as error:
        if error.errno != errno.EROFS:  # it takes only missing permission for a refusal
            raise
    with _no_index():
        return _open_kinds(request, kinds, parallelize=parallelize)


@contextlib.contextmanager
def _no_index() -> Iterator[None]:
    from extra_data.run_files_map import RunFilesMap

    save = RunFilesMap.save
    RunFilesMap.save = lambda _map, _files: None
    try:
        yield
    finally:
        RunFilesMap.save = save


def _open_kinds(request: Request, kinds: list[str], *, parallelize: bool) -> Any:
    """Open the run's data of these kinds; sources that are in both are taken from proc."""
    import extra_data

    root = folders.proposal_path(request)
    if folders.pattern(request) == DEFAULT:
        data = "all" if len(kinds) == 2 else kinds[0]
        place = str(root)  # older versions of extra_data take no Path
        return extra_data.open_run(place, request["run"], data=data, parallelize=parallelize)
    run = None
    for kind in reversed(kinds):
        folder = str(folders.run_folder(request, kind))
        more = extra_data.RunDirectory(folder, parallelize=parallelize)
        run = more if run is None else _add(run, more)
    aliases = root / "usr" / "extra-data-aliases.yml"
    return run.with_aliases(aliases) if run is not None and aliases.is_file() else run


def _add(run: Any, more: Any) -> Any:
    """`run` and those sources of `more` that it does not have."""
    both = run.all_sources & more.all_sources
    others = more.deselect([(source, "*") for source in both]) if both else more
    if not others.all_sources:
        return run
    joined = run.union(others)
    joined.is_single_run = True  # as extra_data.open_run says of the two together
    return joined


def _data_files(folder: Path) -> list[Path]:
    try:
        entries = list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(f for f in entries if f.suffix == ".h5" and f.name.lower() != "overview.h5")


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
