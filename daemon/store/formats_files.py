"""Run files from before format 1: what in them has to change, and the new files in their place."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from ctxlib import netcdf, scales
from ctxlib.images import array_thumbnail, encode_png
from ctxlib.layout import HIDDEN, OBJTYPE, read_summary, write_data
from ctxlib.publish import published_as
from ctxlib.runfile import open_file

DAMAGES = (OSError, RuntimeError, KeyError, ValueError)
"""What h5py raises for a damaged file; an OSError of the system has a number."""

_STORED_TYPE = "stored_type"
_OBJECT_TYPES = {
    "DataArray": "dataarray",
    "Dataset": "dataset",
    "image": "image",
    "timestamp": "timestamp",
}
"""What the format before 1 wrote at a summary, and the object type that stands at the data now."""


@dataclass
class FilePlan:
    """What has to change in a run file; names of variables.

    `arrays` are DataArrays in the form of v0, `types` the object types that stand at the wrong
    place, `pictures` the summaries that are arrays instead of PNG.
    """

    path: Path
    arrays: list[str] = field(default_factory=list)
    types: dict[str, str] = field(default_factory=dict)
    pictures: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.arrays or self.types or self.pictures)


def plan_file(path: Path) -> FilePlan:
    """Look what has to change in the run file at `path`. Raises OSError if it cannot be read."""
    plan = FilePlan(path)
    with open_file(path) as file:
        for name, item in file.items():
            if name not in HIDDEN and _is_old_array(item):
                plan.arrays.append(name)
        for name, dataset in file.get(".reduced", {}).items():
            if _is_picture(dataset):
                plan.pictures.append(name)
            stored = _OBJECT_TYPES.get(str(dataset.attrs.get(_STORED_TYPE)))
            if stored is not None and name in file and OBJTYPE not in file[name].attrs:
                plan.types[name] = stored
                if name in plan.arrays:
                    plan.arrays.remove(name)
    return plan


def convert_file(plan: FilePlan, target: Path) -> None:
    """Write the file of a plan as it is to be to `target`; it is on disk when this returns."""
    ids = itertools.count()
    with open_file(plan.path) as old, published_as(target, durable=True) as new:
        for part in HIDDEN:
            new.create_group(part)
        for name in old:
            if name not in HIDDEN:
                _convert_data(old, new, name, plan, ids)
        for part in HIDDEN:
            for name in old.get(part, ()):
                path = f"{part}/{name}"
                if part == ".reduced" and name in plan.pictures:
                    png = np.frombuffer(thumbnail(old[path][()]), dtype=np.uint8)
                    new.create_dataset(path, data=png)
                else:
                    scales.copy(old, new, path, ids)
                    new[path].attrs.pop(_STORED_TYPE, None)


@dataclass(frozen=True)
class Known:
    """What a run file tells of a variable: its summary, of which type, and the data's spread."""

    value: object
    kind: str | None
    max_diff: float | None


def read_known(path: Path) -> dict[str, Known]:
    """Read what the old run file at `path` tells of each variable; images as PNG."""
    known = {}
    with open_file(path) as file:
        reduced = file.get(".reduced", {})
        for name in {*file, *reduced}.difference(HIDDEN):
            value: object = None
            kind = None
            if name in reduced and _is_picture(reduced[name]):
                value = thumbnail(reduced[name][()])
            elif name in reduced:
                summary = read_summary(reduced[name])
                value, kind = summary.value, summary.type
            known[name] = Known(value, kind, _spread(file[name]) if name in file else None)
    return known


def thumbnail(image: Any) -> bytes:
    """PNG of an image: numbers of shape (y, x), or colours of shape (y, x, 4)."""
    if image.ndim == 2:
        return array_thumbnail(image)
    if image.dtype.kind == "f":
        image = np.clip(np.nan_to_num(image), 0.0, 1.0) * 255
    return encode_png(image.astype(np.uint8))


def _spread(item: h5py.Group | h5py.Dataset) -> float | None:
    """By how much the numbers of a variable differ, if it is an array of one dimension."""
    dataset = _main_dataset(item)
    if dataset is None:
        return None
    if "max_diff" in dataset.attrs:
        return float(dataset.attrs["max_diff"])
    if dataset.ndim != 1 or dataset.dtype.kind not in "iuf":
        return None
    data = dataset[()].astype(float)
    data = data[np.isfinite(data)]
    return float(data.max() - data.min()) if data.size else None


def _main_dataset(item: h5py.Group | h5py.Dataset) -> h5py.Dataset | None:
    """The data of a variable, without its coordinates; None if that is not to be told."""
    if isinstance(item, h5py.Dataset):
        return item
    if "data" in item:
        return item["data"]
    found = [
        member
        for member in item.values()
        if isinstance(member, h5py.Dataset) and not h5py.h5ds.is_scale(member.id)
    ]
    return found[0] if len(found) == 1 else None


def _is_old_array(item: h5py.Group | h5py.Dataset) -> bool:
    if not isinstance(item, h5py.Group) or OBJTYPE in item.attrs:
        return False
    plain = all(isinstance(member, h5py.Dataset) for member in item.values())
    return plain and "data" in item and len(item) > 1


def _is_picture(dataset: h5py.Dataset) -> bool:
    if dataset.dtype.kind not in "iufb" or dataset.size == 0:
        return False
    return bool(dataset.ndim == 2 or (dataset.ndim == 3 and dataset.shape[2] == 4))


def _convert_data(
    old: h5py.File, new: h5py.File, name: str, plan: FilePlan, ids: Iterator[int]
) -> None:
    item, objtype = old[name], plan.types.get(name)
    if name in plan.arrays:
        data = _from_v0(item)
        kind = "dataarray" if isinstance(data, xr.DataArray) else "dataset"
        write_data(new, name, data, kind, ids)
    elif objtype == "dataarray":
        write_data(new, name, netcdf.read_dataarray(item), objtype, ids)
    elif objtype == "dataset":
        write_data(new, name, netcdf.read_dataset(item), objtype, ids)
    else:
        scales.copy(old, new, name, ids)
        if objtype is not None:
            new[name].attrs[OBJTYPE] = objtype


def _from_v0(group: h5py.Group) -> xr.DataArray | xr.Dataset:
    """The array in a group of v0, which tells its coordinates but not which dimensions they label.

    Their lengths tell it. Where several would fit, nothing is guessed: it becomes a Dataset in
    which each coordinate is a member along a dimension of its own.
    """
    data = group["data"][()]
    labels = {name: group[name][()] for name in group if name != "data"}
    dims = [f"dim_{axis}" for axis in range(data.ndim)]
    coords: dict[str, Any] = {name: ((), v) for name, v in labels.items() if np.ndim(v) == 0}
    for name, values in labels.items():
        if name in coords:
            continue
        axes = [axis for axis, size in enumerate(data.shape) if size == len(values)]
        rivals = [other for other in labels.values() if np.shape(other) == np.shape(values)]
        if np.ndim(values) != 1 or len(axes) != 1 or len(rivals) != 1:
            return _all_apart(data, labels)
        dims[axes[0]] = name
        coords[name] = (name, values)
    return xr.DataArray(data, dims=dims, coords=coords)


def _all_apart(data: Any, labels: dict[str, Any]) -> xr.Dataset:
    members = {"data": data, **labels}
    return xr.Dataset(
        {
            name: ([f"{name}_{axis}" for axis in range(np.ndim(values))], values)
            for name, values in members.items()
        }
    )
