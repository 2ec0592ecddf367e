"""Attributes of xarray objects in a file: those that NetCDF can hold, and the rest beside them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import h5py
import numpy as np

from ctxlib.text import storable_text

OURS = "_damnit_runtable_"  # what starts with `_damnit_`, other readers leave out of what they give
_BEFORE = "_runtable_"  # files of earlier versions have this instead
_BESIDE = OURS + "attrs"  # JSON of the attributes that NetCDF cannot hold

# What has a meaning of its own in the file; a user's attribute of the same name stands beside.
_FORMATS = {
    *("CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST", "DIMENSION_LABELS"),
    *("_Netcdf4Dimid", "_Netcdf4Coordinates", "_NCProperties", "_nc3_strict"),
    *("_damnit_objtype", "__xarray_dataarray_name__"),
}
_ENCODINGS = {
    *("_FillValue", "missing_value", "scale_factor", "add_offset", "coordinates", "dtype"),
    *("calendar", "grid_mapping", "bounds", "_Unsigned", "_Encoding", "_ChunkSizes"),
}
Attributes = dict[str, Any]


def split(
    attributes: Mapping[Any, Any], reserved: Collection[str] = ()
) -> tuple[Attributes, Attributes]:
    """Part attributes into those that NetCDF holds, and the rest in a form that JSON holds.

    Names in `reserved` belong to the rest too. What not even JSON can hold becomes text.
    """
    kept, rest = {}, {}
    for key, value in attributes.items():
        if _is_free(key) and key not in reserved and _is_storable(value):
            kept[key] = value
        else:
            rest[str(key)] = _as_json(value)
    return kept, rest


def _is_free(key: object) -> bool:
    if not isinstance(key, str) or not key or key != storable_text(key):
        return False
    return key not in _FORMATS and key not in _ENCODINGS and not key.startswith((OURS, _BEFORE))


def _is_storable(value: object) -> bool:
    if isinstance(value, str | float):
        return True
    if isinstance(value, bool | np.bool_):
        return False
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    if isinstance(value, list | tuple):
        # One item alone would be read back as a scalar.
        kinds = {type(item) for item in value}
        return len(value) > 1 and (kinds in ({str}, {float}) or all(map(_is_integer, value)))
    if isinstance(value, np.generic | np.ndarray):
        return value.dtype.kind in "iuf" and value.ndim <= 1 and value.size > 0
    return False


def _is_integer(value: object) -> bool:
    return type(value) is int and _is_storable(value)


def _as_json(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def write(owner: h5py.Group | h5py.Dataset, attributes: Mapping[Any, Any]) -> None:
    """Write attributes that NetCDF holds, as h5netcdf does: numbers as arrays."""
    for key, value in attributes.items():
        if isinstance(value, str):
            value = storable_text(value)
        elif isinstance(value, list | tuple) and isinstance(value[0], str):
            value = np.array([storable_text(item) for item in value], dtype=h5py.string_dtype())
        else:
            value = np.atleast_1d(np.asarray(value))
        owner.attrs[str(key)] = value


def write_beside(owner: h5py.Group | h5py.Dataset, rest: Attributes) -> None:
    """Write the rest that `split` gave."""
    owner.attrs[_BESIDE] = json.dumps(rest)


def read(owner: h5py.Group | h5py.Dataset) -> tuple[Attributes, Attributes]:
    """Read both parts again; those that belong to the format are left out."""
    kept: Attributes = {}
    for key in owner.attrs:
        if key in _FORMATS or key.startswith((OURS, _BEFORE)):
            continue
        value = owner.attrs[key]
        if isinstance(value, np.ndarray):
            texts = value.dtype.kind == "O"
            value = value[0] if value.size == 1 else list(value) if texts else value
        kept[key] = value
    return kept, json.loads(read_own(owner, _BESIDE) or "{}")


def read_own(owner: h5py.Group | h5py.Dataset, name: str) -> Any:
    """Read an attribute of ours, `name` starting with `OURS`; None if there is none."""
    for spelling in (name, _BEFORE + name.removeprefix(OURS)):
        if spelling in owner.attrs:
            return owner.attrs[spelling]
    return None
