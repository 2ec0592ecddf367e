"""Dimension scales: how an HDF5 file says which arrays share which dimension, in netCDF-4's way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import h5py
import numpy as np

_BARE_DIMENSION = "This is a netCDF dimension but not a netCDF variable."
_NUMBER = "_Netcdf4Dimid"
_NUMBERS = "_Netcdf4Coordinates"


def make(
    group: h5py.Group,
    sizes: Mapping[str, int],
    coordinates: Mapping[str, h5py.Dataset],
    ids: Iterator[int],
) -> dict[str, h5py.Dataset]:
    """Make a scale of each dimension, out of its coordinate or else of an empty dataset.

    `ids` numbers them; numbers are unique in a file.
    """
    scales = {}
    for dim, size in sizes.items():
        scale, label = coordinates.get(dim), dim
        if scale is None:
            scale = group.create_dataset(dim, shape=(size,), dtype=">f4")
            label = f"{_BARE_DIMENSION}{size:>10}"
        h5py.h5ds.set_scale(scale.id, label.encode())
        scale.attrs[_NUMBER] = np.int32(next(ids))
        scales[dim] = scale
    return scales


def attach(dataset: h5py.Dataset, scales: Sequence[h5py.Dataset]) -> None:
    """Say that an array lies along these scales, one for each axis."""
    numbers = np.array([scale.attrs[_NUMBER] for scale in scales], dtype=np.int32)
    for axis, scale in enumerate(scales):
        if scale != dataset:  # a coordinate is its own scale
            h5py.h5ds.attach_scale(dataset.id, scale.id, axis)
    dataset.attrs.modify(_NUMBERS, numbers)
    dataset.attrs.modify(_NUMBER, numbers[0])


def is_bare_dimension(dataset: h5py.Dataset) -> bool:
    """Tell whether a dataset only stands for a dimension that has no coordinate."""
    name = dataset.attrs.get("NAME", b"")
    return isinstance(name, bytes) and name.startswith(_BARE_DIMENSION.encode())


def dimensions(dataset: h5py.Dataset) -> list[str]:
    """Names of an array's dimensions; `dim_<axis>` for one that has none."""
    if h5py.h5ds.is_scale(dataset.id):
        return [_own_name(dataset)]
    scales = [dataset.dims[axis] for axis in range(dataset.ndim)]
    return [
        _own_name(scale[0]) if len(scale) else f"dim_{axis}" for axis, scale in enumerate(scales)
    ]


def _own_name(dataset: h5py.Dataset) -> str:
    return str(dataset.name).rpartition("/")[2]


def copy(source: h5py.Group, target: h5py.Group, path: str, ids: Iterator[int]) -> None:
    """Copy the object at `path` from one file to the same path of another.

    HDF5's own copy leaves the references between arrays and their scales pointing nowhere: they
    are made anew, and the dimensions numbered anew from `ids`.
    """
    h5py.h5o.copy(source.id, path.encode(), target.id, path.encode())
    copied = target[path]
    if isinstance(copied, h5py.Group) and "_damnit_objtype" in copied.attrs:
        _rebuild(source[path], copied, ids)


def _rebuild(source: h5py.Group, copied: h5py.Group, ids: Iterator[int]) -> None:
    arrays = {key: item for key, item in source.items() if isinstance(item, h5py.Dataset)}
    copies = {key: copied[key] for key in arrays}
    for dataset in copies.values():
        for broken in ("DIMENSION_LIST", "REFERENCE_LIST"):
            if broken in dataset.attrs:
                del dataset.attrs[broken]
    scales = {key: copies[key] for key in arrays if h5py.h5ds.is_scale(arrays[key].id)}
    for scale in scales.values():
        scale.attrs.modify(_NUMBER, np.int32(next(ids)))
    for key, dataset in arrays.items():
        if not is_bare_dimension(dataset):
            wanted = [scales.get(dim) for dim in dimensions(dataset)]
            found = [scale for scale in wanted if scale is not None]
            if found and len(found) == len(wanted):
                attach(copies[key], found)
