"""Runs that are folders of plain HDF5 or NeXus files, of whatever layout."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ctxlib.sources import OpenedRun, Request, RunUnavailable, folders

SUFFIXES = (".h5", ".hdf5", ".hdf", ".nxs", ".nx", ".cxi")
_KEPT_OPEN = 32
# Older Pythons read neither a Z nor fractions of any other length than 3 or 6.
_TIME = re.compile(r"(.+?[T ]\d\d:\d\d(?::\d\d)?)(\.\d+)?\s*(Z|[+-]\d\d:?\d\d)?", re.ASCII)


def preload() -> None:
    """Import h5py."""
    import h5py  # noqa: F401


def available_data(request: Request) -> str:
    """`all` where the run has proc data, else `raw`."""
    return folders.available_data(request, _data_files)


def open_run(request: Request) -> OpenedRun:
    """Open raw data for raw jobs, raw and proc together for the others where proc exists.

    The run began at the earliest NeXus `start_time` in its files, or with its oldest file. Raises
    RunUnavailable, also when one of the files cannot be read.
    """
    found = folders.data_files(request, _data_files, f"*{', *'.join(SUFFIXES)}")
    files = [file for some in found.values() for file in some]
    oldest = folders.oldest(files)
    times: list[float] = []
    for file in files:
        try:
            with _open(file) as opened:
                times += _start_times(opened)
        except OSError as error:
            raise RunUnavailable(f"{file} cannot be read ({error})", oldest) from error
    return OpenedRun(Hdf5Run(found), min(times, default=oldest))


class Hdf5Run:
    """The files of a run, and what is in them by its path, such as `run["entry/data/counts"]`.

    Gives datasets and groups of h5py, which read when they are asked to. What is both in raw and
    proc files is taken from proc. Iterating gives the paths of all datasets, each once, without
    those that are reached by links alone.
    """

    def __init__(self, files: Mapping[str, list[Path]]) -> None:
        """`files` are the raw and proc files; see `folders.data_files`."""
        self._by_kind = [files[data] for data in ("proc", "raw") if data in files]
        self._opened: OrderedDict[Path, Any] = OrderedDict()
        self._found: dict[str, Path] = {}

    @property
    def files(self) -> list[Path]:
        """The paths of all files, raw before proc."""
        return [file for some in reversed(self._by_kind) for file in some]

    def file(self, name: str) -> Any:
        """The file called `name`, opened by h5py; with folders before it if there are several.

        Raises KeyError.
        """
        parts = Path(name).parts
        for some in self._by_kind:
            found = [file for file in some if parts and file.parts[-len(parts) :] == parts]
            if len(found) > 1:
                raise KeyError(f"{name!r} is the name of {_listed(found)}: give folders before it")
            if found:
                return self._file(found[0])
        raise KeyError(f"the run has no file {name!r}; it has {_listed(self.files)}")

    def __getitem__(self, path: str) -> Any:
        if path not in self._found:
            self._found[path] = self._search(path)
        return self._file(self._found[path])[path]

    def __iter__(self) -> Iterator[str]:
        seen: set[str] = set()
        for file in (file for some in self._by_kind for file in some):
            for path in _datasets(self._file(file)):
                if path not in seen:
                    seen.add(path)
                    yield path

    def __contains__(self, path: object) -> bool:
        return any(path in self._file(file) for file in self.files)

    def __repr__(self) -> str:
        return f"<run of {len(self.files)} HDF5 files>"

    def _search(self, path: str) -> Path:
        for some in self._by_kind:
            found = [file for file in some if path in self._file(file)]
            if len(found) > 1:
                raise KeyError(
                    f"{path!r} is in {_listed(found)}: choose with run.file(name)[{path!r}]"
                )
            if found:
                return found[0]
        raise KeyError(f"{path!r} is in no file of the run: {_listed(self.files)}")

    def _file(self, path: Path) -> Any:
        """The file, opened. What was read from a file keeps it open when this lets go of it."""
        if path not in self._opened:
            self._opened[path] = _open(path)
        self._opened.move_to_end(path)
        if len(self._opened) > _KEPT_OPEN:
            self._opened.popitem(last=False)
        return self._opened[path]


def _open(path: Path) -> Any:
    import h5py

    # A lock of ours would keep a program that goes on writing from opening its file.
    return h5py.File(path, "r", locking=False)


def _data_files(folder: Path) -> list[Path]:
    """The HDF5 files in a folder and the folders below it."""
    return sorted(
        Path(where, name)
        for where, _, names in os.walk(folder, onerror=_refuse_unless_gone)
        for name in names
        if name.lower().endswith(SUFFIXES) and not name.startswith(".")
    )


def _refuse_unless_gone(error: OSError) -> None:
    # What of a run cannot be read would be missing without a word.
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _datasets(file: Any) -> list[str]:
    import h5py

    found: list[str] = []

    def visit(path: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found.append(path)

    file.visititems(visit)
    return found


def _start_times(file: Any) -> Iterator[float]:
    """The NeXus `start_time` of each entry, in seconds since the epoch."""
    import h5py

    for name in file:
        entry = file.get(name)  # None for a link to a file that is away
        began = entry.get("start_time") if isinstance(entry, h5py.Group) else None
        time = _seconds(began) if isinstance(began, h5py.Dataset) else None
        if time is not None:
            yield time


def _seconds(dataset: Any) -> float | None:
    """The time that a dataset has as ISO 8601 text; without a zone it is that of this machine."""
    value = dataset[()]
    if getattr(value, "size", 1) != 1:
        return None
    value = value.item() if hasattr(value, "item") else value
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    match = _TIME.fullmatch(text.strip())
    if match is None:
        return None
    time, fraction, zone = match.groups()
    zone = {None: "", "Z": "+00:00"}.get(zone, zone)
    if len(zone) == 5:
        zone = f"{zone[:3]}:{zone[3:]}"
    try:
        return datetime.fromisoformat(time + zone).timestamp() + float(fraction or 0)
    except (ValueError, OverflowError):
        return None


def _listed(files: list[Path]) -> str:
    names = [file.name for file in files]
    if len(set(names)) < len(names):
        names = ["/".join(file.parts[-2:]) for file in files]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
