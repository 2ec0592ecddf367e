"""Fragments and run files: written, read and combined.

A fragment holds one result of a job. A run file holds all results of a run and is never modified
once it is published: a new one takes its place. xarray is only loaded to write or read its own
objects, so that the process that combines stays small.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from ctxlib import scales
from ctxlib.layout import HIDDEN, ORIGIN, START_TIME, write_data, write_preview, write_summary
from ctxlib.plain import decode_plain
from ctxlib.publish import published_as
from ctxlib.runfile import RunFile, open_file
from ctxlib.summaries import Prepared
from ctxlib.summary import Summary
from ctxlib.text import storable_text
from ctxlib.whole_file import remove_leftovers

__all__ = ["BrokenFragmentError", "Result", "RunFile", "combine", "write_fragment"]

_HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError)  # what h5py raises for damaged files


class BrokenFragmentError(OSError):
    """A fragment is missing or not whole: its variable (`variable`) must be computed again."""

    def __init__(self, variable: str, path: Path, reason: object) -> None:
        self.variable = variable
        super().__init__(f"fragment {path} of {variable!r} cannot be read: {reason}")


@dataclass(frozen=True)
class Result:
    """What became of one variable; of error, fragment and data at most one is given.

    None of them: the variable gave nothing and is cleared. `error` is the class name (`Skip` among
    them) and the text. `data` is what `encode_plain` gave. `objtype` belongs to the data.
    """

    name: str
    summary: Summary | None = None
    data: Mapping[str, Any] | None = None
    fragment: Path | None = None
    error: tuple[str, str] | None = None
    objtype: str | None = None
    origin: Mapping[str, Any] | None = None


def write_fragment(
    path: Path, name: str, prepared: Prepared, origin: Mapping[str, Any] | None
) -> None:
    """Write one result to a file of its own, which is at `path` only when it is whole.

    Not fsynced: a fragment can be computed again. Raises UnsavableError or OSError.
    """
    with published_as(path) as file:
        ids = itertools.count()
        for part in HIDDEN:
            file.create_group(part)
        group = write_data(file, name, prepared.data, prepared.objtype, ids)
        _write_origin(group, origin)
        write_preview(file, name, prepared.preview, prepared.preview_objtype, ids)
        write_summary(file, name, prepared.summary)


def combine(target: Path, results: Sequence[Result], *, start_time: float | None) -> Path | None:
    """Publish a run file with these results in place of `target`, which need not exist.

    What the old file holds of these variables is replaced, everything else is taken over.
    `start_time` is in seconds since the epoch; None keeps the old one. The new file is on disk when
    this returns. Of two results of one name the later counts.

    An old file that cannot be read is kept as `<name>.unreadable-<n>`, and that path returned.
    Raises BrokenFragmentError, or OSError when the new file cannot be written; the old one is then
    untouched.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    newest = {result.name: result for result in results}
    replaced = set(newest) | (set() if start_time is None else {START_TIME})
    aside = None
    with published_as(target, durable=True) as new:
        ids = itertools.count()
        for part in HIDDEN:
            new.create_group(part)
        damaged = _copy_old(target, new, replaced, ids)
        for result in newest.values():
            _add(new, result, ids)
        if start_time is not None:
            new[f".reduced/{START_TIME}"] = start_time
            new[f"{START_TIME}/data"] = start_time
        if damaged:
            aside = _keep_aside(target)
    return aside


def _copy_old(target: Path, new: h5py.File, replaced: Collection[str], ids: Iterator[int]) -> bool:
    """Take over what stays from the old file; True if some of it cannot be read."""
    try:
        target.open("rb").close()  # a file that we may not read is no damaged one: this raises
    except FileNotFoundError:
        return False
    try:
        old = open_file(target)
    except OSError as error:
        if error.errno is not None:
            raise
        return True
    damaged = False
    with old:
        for path in _paths(old):
            if path.rpartition("/")[2] in replaced:
                continue
            try:
                scales.copy(old, new, path, ids)
            except _HDF5_ERRORS:
                if _is_readable(old, path):
                    raise  # then it is the new file that cannot be written
                damaged = True
                if path in new:
                    del new[path]
    return damaged


def _paths(file: h5py.File) -> list[str]:
    """The paths of everything that belongs to one variable."""
    paths = [name for name in file if name not in HIDDEN]
    for part in HIDDEN:
        paths += [f"{part}/{name}" for name in file.get(part, ())]
    return paths


def _is_readable(file: h5py.File, path: str) -> bool:
    try:
        item = file[path]
        members = [item[key] for key in item] if isinstance(item, h5py.Group) else [item]
        for member in members:
            if isinstance(member, h5py.Dataset):
                _read_through(member)
    except _HDF5_ERRORS:
        return False
    return True


def _read_through(dataset: h5py.Dataset) -> None:
    if dataset.chunks is None:
        dataset[()]
        return
    for chunk in dataset.iter_chunks():
        dataset[chunk]


def _keep_aside(target: Path) -> Path:
    """Keep a damaged file under another name, so that a person can look at it."""
    for number in itertools.count(1):
        aside = target.with_name(f"{target.name}.unreadable-{number}")
        try:
            aside.hardlink_to(target)
        except FileExistsError:
            continue
        return aside
    raise AssertionError("unreachable")


def _add(new: h5py.File, result: Result, ids: Iterator[int]) -> None:
    name = result.name
    if result.error is not None:
        kind, message = result.error
        text = storable_text(message)
        dataset = new[".errors"].create_dataset(name, data=text, dtype=h5py.string_dtype())
        dataset.attrs["type"] = kind
        _write_origin(dataset, result.origin)
        return
    if result.fragment is not None:
        _add_fragment(new, result, result.fragment, ids)
    elif result.data is not None:
        group = write_data(new, name, decode_plain(result.data), result.objtype, ids)
        _write_origin(group, result.origin)
    if result.summary is not None:
        write_summary(new, name, result.summary)


def _add_fragment(new: h5py.File, result: Result, path: Path, ids: Iterator[int]) -> None:
    wanted = [result.name, f".preview/{result.name}"]
    if result.summary is None:
        wanted.append(f".reduced/{result.name}")
    try:
        fragment = open_file(path)
    except OSError as error:
        raise BrokenFragmentError(result.name, path, error) from error
    with fragment:
        if result.name not in fragment:
            raise BrokenFragmentError(result.name, path, "it does not hold that variable")
        for item in wanted:
            try:
                if item in fragment:
                    scales.copy(fragment, new, item, ids)
            except _HDF5_ERRORS as error:
                if _is_readable(fragment, item):
                    raise
                raise BrokenFragmentError(result.name, path, error) from error


def _write_origin(item: h5py.Group | h5py.Dataset, origin: Mapping[str, Any] | None) -> None:
    if origin is not None:
        item.attrs[ORIGIN] = json.dumps(origin)
