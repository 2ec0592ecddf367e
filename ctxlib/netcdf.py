"""xarray objects to and from groups of an HDF5 file, as xarray and h5netcdf write them.

With h5py alone: h5netcdf need not be there, and takes many times as long. xarray's own CF encoding
is used, so that names, times and missing values follow its conventions.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import numpy.typing as npt

from ctxlib import attributes, scales
from ctxlib.errors import UnsavableError
from ctxlib.text import storable_text

if TYPE_CHECKING:
    import xarray as xr

_UNNAMED = "__xarray_dataarray_variable__"  # xarray's name for a DataArray without a usable one
_NAME = "__xarray_dataarray_name__"
_NOT_A_COORDINATE = "_nc4_non_coord_"  # netCDF-4's mark of a variable only named like a dimension
_MULTI_INDEXES = (
    attributes.OURS + "multiindex"
)  # JSON: the levels that make up the index of a dimension
# JSON: what `attributes.split` left of each array's. Not at the arrays, where others would see it.
_MEMBERS_BESIDE = attributes.OURS + "member_attrs"
_FILL = "_FillValue"  # of the type of its array, or readers refuse it
_COMPLEX_TYPES = {8: "_PFNC_FLOAT_COMPLEX_TYPE", 16: "_PFNC_DOUBLE_COMPLEX_TYPE"}


def write(group: h5py.Group, value: xr.DataArray | xr.Dataset, ids: Iterator[int]) -> None:
    """Write a DataArray or Dataset into an empty group.

    `ids` gives the dimensions their numbers, which must be unique in a file. `/` in names becomes
    `_`. Raises UnsavableError naming the member that NetCDF cannot hold.
    """
    from xarray import Dataset

    if isinstance(value, Dataset):
        dataset = value
    elif value.name is None:
        dataset = value.to_dataset(name=_UNNAMED)
    elif value.name in value.coords or value.name in value.dims:
        dataset = value.to_dataset(name=_UNNAMED)
        group.attrs[_NAME] = storable_text(str(value.name))
    else:
        dataset = value.to_dataset(name=value.name)
    dataset, levels = _without_multi_indexes(dataset)
    if levels:
        group.attrs[_MULTI_INDEXES] = json.dumps(levels)
    _write_dataset(group, dataset, ids)


def _without_multi_indexes(dataset: xr.Dataset) -> tuple[xr.Dataset, dict[str, list[str]]]:
    """Levels as plain coordinates, and which levels make up the index of each dimension."""
    found: dict[str, list[str]] = {}
    for index, variables in dataset.xindexes.group_by_index():
        if type(index).__name__ == "PandasMultiIndex":
            dim = str(index.dim)  # type: ignore[attr-defined]
            found[dim] = [str(name) for name in variables if str(name) != dim]
    for dim in found:
        dataset = dataset.reset_index(dim)
    return dataset, found


def _write_dataset(group: h5py.Group, dataset: xr.Dataset, ids: Iterator[int]) -> None:
    names = _stored_names([*dataset.variables, *dataset.dims])
    plain, beside = _plain(dataset, names)
    variables, global_attributes = _encode(plain)
    sizes = {names[dim]: size for dim, size in dataset.sizes.items()}
    arrays = {}
    for name, variable in variables.items():
        only_named = name in sizes and variable.dims != (name,)
        key = _NOT_A_COORDINATE + name if only_named else name
        arrays[name] = _write_values(group, key, variable.values)
        _write_attributes(arrays[name], variable.attrs)
    coordinates = [dim for dim in sizes if dim in arrays and variables[dim].dims == (dim,)]
    made = scales.make(group, sizes, {dim: arrays[dim] for dim in coordinates}, ids)
    for name, variable in variables.items():
        if variable.dims:
            scales.attach(arrays[name], [made[str(dim)] for dim in variable.dims])
    attributes.write(group, global_attributes)
    members = {name: beside[name] for name in variables if beside[name]}
    if members:
        group.attrs[_MEMBERS_BESIDE] = json.dumps(members)
    if beside[None]:
        attributes.write_beside(group, beside[None])


def _stored_names(names: Iterable[Hashable]) -> dict[Hashable, str]:
    """A name for the file for each name: text, without `/`, no two alike."""
    stored: dict[Hashable, str] = {}
    for name in names:
        if name not in stored:
            text = storable_text(str(name)).replace("/", "_")
            text = "_" if text in ("", ".", "..") else text
            while text in stored.values():
                text += "_"
            stored[name] = text
    return stored


def _plain(
    dataset: xr.Dataset, names: Mapping[Hashable, str]
) -> tuple[xr.Dataset, dict[str | None, attributes.Attributes]]:
    """The same with names, attributes and values that files hold, and the attributes left over.

    These are by the name of the variable, or None for the whole. The encoding of a source file,
    which could lose precision, is dropped.
    """
    from xarray import Coordinates, Dataset, Variable

    kept, rest = attributes.split(dataset.attrs)
    beside: dict[str | None, attributes.Attributes] = {None: rest}
    variables = {}
    for key, variable in dataset.variables.items():
        name = names[key]
        reserved = ("units",) if variable.dtype.kind in "mM" else ()
        own, beside[name] = attributes.split(variable.attrs, reserved)
        dims = [names[dim] for dim in variable.dims]
        variables[name] = Variable(dims, _plain_values(variable), own, fastpath=True)
    coordinates = {names[key]: variables.pop(names[key]) for key in dataset.coords}
    # No index is needed for writing, and building one of a large coordinate takes time.
    return Dataset(variables, Coordinates(coordinates, indexes={}), kept), beside


def _plain_values(variable: xr.Variable) -> npt.NDArray[Any]:
    values = variable.values
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8", "backslashreplace")
    if values.dtype.kind == "O":
        filled = np.empty(values.shape, dtype=object)
        for place, item in np.ndenumerate(values):
            missing = item is None or item != item  # NaN is unequal to itself
            filled[place] = "" if missing else item.decode() if isinstance(item, bytes) else item
        return filled
    return values


def _encode(dataset: xr.Dataset) -> tuple[dict[str, xr.Variable], Mapping[Any, Any]]:
    from xarray import conventions

    try:
        variables, global_attributes = conventions.encode_dataset_coordinates(dataset)
        variables, global_attributes = conventions.cf_encoder(variables, global_attributes)
    except (ValueError, TypeError, NotImplementedError, OverflowError) as error:
        raise UnsavableError(f"it cannot be saved as NetCDF: {error}") from error
    return {str(name): variable for name, variable in variables.items()}, global_attributes


def _write_attributes(array: h5py.Dataset, found: Mapping[Any, Any]) -> None:
    fill = {key: np.asarray(value, array.dtype) for key, value in found.items() if key == _FILL}
    attributes.write(array, {**found, **fill})


def _write_values(group: h5py.Group, name: str, values: npt.NDArray[Any]) -> h5py.Dataset:
    if values.dtype.kind != "c" or values.dtype.itemsize not in _COMPLEX_TYPES:
        return write_array(group, name, values)
    # netCDF readers know complex numbers by the name of a type that stands in the group.
    committed = _COMPLEX_TYPES[values.dtype.itemsize]
    if committed not in group:
        group[committed] = values.dtype
    return write_array(group, name, values, dtype=group[committed])


def write_array(
    group: h5py.Group, name: str, values: npt.NDArray[Any], *, dtype: Any = None
) -> h5py.Dataset:
    """Write an array of numbers, texts or records as a dataset; arrays of numbers compressed.

    Raises UnsavableError for an array of other objects.
    """
    if values.dtype.kind in "OU":
        odd = next((item for item in values.flat if not isinstance(item, str)), None)
        if odd is not None:
            raise UnsavableError(f"{name!r} holds objects of type {type(odd).__name__}, not texts")
        texts = np.array([storable_text(text) for text in values.flat], dtype=object)
        shaped = texts.reshape(values.shape)
        return group.create_dataset(name, data=shaped, dtype=h5py.string_dtype())
    # Below about a kilobyte the index of the chunks takes more room than compression saves.
    if values.ndim == 0 or values.nbytes < 1024:
        return group.create_dataset(name, data=values, dtype=dtype)
    return group.create_dataset(
        name, data=values, dtype=dtype, compression="gzip", compression_opts=1, shuffle=True
    )


def read_dataset(group: h5py.Group) -> xr.Dataset:
    """Read a group as a Dataset, decoded by xarray's conventions and loaded."""
    import xarray as xr

    variables = {}
    beside = {}
    for key, array in group.items():
        if isinstance(array, h5py.Dataset) and not scales.is_bare_dimension(array):
            name = key.removeprefix(_NOT_A_COORDINATE)
            kept, beside[name] = attributes.read(array)
            variables[name] = xr.Variable(scales.dimensions(array), _read_values(array), kept)
    kept, rest = attributes.read(group)
    raw = xr.Dataset(variables, attrs=kept)
    dataset = xr.decode_cf(raw, decode_timedelta=_timedelta_coder()).load()
    members = json.loads(attributes.read_own(group, _MEMBERS_BESIDE) or "{}")
    for name, others in [*beside.items(), *members.items()]:
        dataset[name].attrs.update(others)
    dataset.attrs.update(rest)
    for dim, levels in json.loads(attributes.read_own(group, _MULTI_INDEXES) or "{}").items():
        dataset = dataset.set_index({dim: levels})
    return dataset


def read_dataarray(group: h5py.Group) -> xr.DataArray:
    """Read a group that holds one DataArray. ValueError if it holds another number of them."""
    dataset = read_dataset(group)
    if len(dataset.data_vars) != 1:
        members = ", ".join(map(str, dataset.data_vars)) or "none"
        raise ValueError(f"{group.name} holds no single DataArray but: {members}")
    ((name, array),) = dataset.data_vars.items()
    array.name = group.attrs.get(_NAME, None if name == _UNNAMED else name)
    return array


def _read_values(array: h5py.Dataset) -> npt.NDArray[Any]:
    if h5py.check_string_dtype(array.dtype) is None:
        return np.asarray(array[()])
    return np.asarray(array.asstr()[()], dtype=str)


def _timedelta_coder() -> Any:
    """Decode lengths of time by their stated type: by units alone, plain seconds look the same."""
    import xarray as xr

    try:
        return xr.coders.CFTimedeltaCoder(decode_via_units=False)
    except (AttributeError, TypeError):
        return None  # before xarray 2025.7 units are all there is
