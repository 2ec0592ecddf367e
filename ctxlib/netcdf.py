"""xarray objects to and from groups of an HDF5 file, as xarray and h5netcdf write them.

With h5py alone: h5netcdf need not be there, and takes many times as long. xarray's own CF encoding
is used, so that names, times and missing values follow its conventions. What NetCDF cannot hold
(attributes like True or None, the MultiIndex) stands beside in JSON attributes of ours.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import numpy.typing as npt

from ctxlib.errors import UnsavableError
from ctxlib.text import storable_text

if TYPE_CHECKING:
    import xarray as xr

UNNAMED = "__xarray_dataarray_variable__"  # xarray's name for a DataArray that has none it can use
_NAME = "__xarray_dataarray_name__"
_BARE_DIMENSION = "This is a netCDF dimension but not a netCDF variable."
_NOT_A_COORDINATE = "_nc4_non_coord_"  # netCDF-4's mark of a variable only named like a dimension
_OTHER_ATTRIBUTES = "_runtable_attrs"
_MULTI_INDEXES = "_runtable_multiindex"
_COMPLEX_TYPES = {8: "_PFNC_FLOAT_COMPLEX_TYPE", 16: "_PFNC_DOUBLE_COMPLEX_TYPE"}

# Attributes with a meaning of their own in the file; a user's of the same name stand beside.
_OF_FORMAT = frozenset(
    [
        "CLASS",
        "NAME",
        "REFERENCE_LIST",
        "DIMENSION_LIST",
        "DIMENSION_LABELS",
        "_Netcdf4Dimid",
        "_Netcdf4Coordinates",
        "_NCProperties",
        "_nc3_strict",
        "_damnit_objtype",
        "_runtable_objtype",
        "_runtable_origin",
        "_runtable_attrs",
        "_runtable_multiindex",
        "__xarray_dataarray_name__",
    ]
)
_OF_ENCODING = frozenset(
    [
        "_FillValue",
        "missing_value",
        "scale_factor",
        "add_offset",
        "coordinates",
        "dtype",
        "calendar",
        "grid_mapping",
        "bounds",
        "_Unsigned",
        "_Encoding",
        "_ChunkSizes",
    ]
)

# ---------------------------------------------------------------- writing


def write(group: h5py.Group, value: xr.DataArray | xr.Dataset, ids: Iterator[int]) -> None:
    """Write a DataArray or Dataset into an empty group.

    `ids` gives the dimensions their numbers, which must be unique in a file. `/` in names becomes
    `_`. Raises UnsavableError naming the member that NetCDF cannot hold.
    """
    from xarray import DataArray, conventions

    extra: dict[str, Any] = {}
    dataset = _to_dataset(value, extra) if isinstance(value, DataArray) else value
    dataset, extra[_MULTI_INDEXES] = _without_multi_indexes(dataset)
    plain, beside = _plain_dataset(dataset)
    try:
        variables, attributes = conventions.encode_dataset_coordinates(plain)
        variables, attributes = conventions.cf_encoder(variables, attributes)
    except (ValueError, TypeError, NotImplementedError, OverflowError) as error:
        raise UnsavableError(
            f"{type(value).__name__} cannot be saved as NetCDF: {error}"
        ) from error
    sizes = {str(dim): size for dim, size in plain.sizes.items()}
    _write_group(group, sizes, variables, ids)
    for name, content in attributes.items():
        group.attrs[str(name)] = _attribute(content)
    for name, rest in beside.items():
        owner = group if name is None else group[_member_key(name, sizes, variables)]
        owner.attrs[_OTHER_ATTRIBUTES] = json.dumps(rest)
    if extra[_MULTI_INDEXES]:
        group.attrs[_MULTI_INDEXES] = json.dumps(extra[_MULTI_INDEXES])
    if _NAME in extra:
        group.attrs[_NAME] = extra[_NAME]


def _to_dataset(array: xr.DataArray, extra: dict[str, Any]) -> xr.Dataset:
    if array.name is None:
        return array.to_dataset(name=UNNAMED)
    if array.name in array.coords or array.name in array.dims:
        extra[_NAME] = storable_text(str(array.name))
        return array.to_dataset(name=UNNAMED)
    return array.to_dataset(name=array.name)


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


def _plain_dataset(dataset: xr.Dataset) -> tuple[xr.Dataset, dict[str | None, dict[str, Any]]]:
    """The same with names, attributes and values that files hold, and the attributes left over.

    The encoding of a source file, which could lose precision, is dropped.
    """
    from xarray import Coordinates, Dataset, Variable

    names = _stored_names([*dataset.variables, *dataset.dims])
    beside: dict[str | None, dict[str, Any]] = {}
    variables = {}
    for key, variable in dataset.variables.items():
        is_time = variable.dtype.kind in "mM"
        attributes, rest = _split_attributes(variable.attrs, {"units"} if is_time else set())
        if rest:
            beside[names[key]] = rest
        dims = [names[dim] for dim in variable.dims]
        variables[names[key]] = Variable(
            dims, _storable_values(variable), attributes, fastpath=True
        )
    attributes, rest = _split_attributes(dataset.attrs, set())
    if rest:
        beside[None] = rest
    coordinates = {names[key]: variables.pop(names[key]) for key in dataset.coords}
    # No index is needed for writing, and building one of a large coordinate takes time.
    plain = Dataset(variables, Coordinates(coordinates, indexes={}), attributes)
    return plain, beside


def _stored_names(names: list[Hashable]) -> dict[Hashable, str]:
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


def _storable_values(variable: xr.Variable) -> npt.NDArray[Any]:
    values = variable.values
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8", "backslashreplace")
    if values.dtype.kind == "O" and all(isinstance(v, str | bytes | None) for v in values.flat):
        texts = [
            "" if v is None else v.decode() if isinstance(v, bytes) else v for v in values.flat
        ]
        return np.array(texts, dtype=object).reshape(values.shape)
    return values


def _split_attributes(
    attributes: Mapping[Any, Any], taken: set[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those that NetCDF holds, and the rest in a form that JSON holds."""
    kept, rest = {}, {}
    for key, value in attributes.items():
        name = storable_text(str(key)).replace("/", "_") or "_"
        if name not in _OF_FORMAT | _OF_ENCODING | taken and _is_storable(value):
            kept[name] = value
        else:
            rest[str(key)] = _as_json(value)
    return kept, rest


def _is_storable(value: object) -> bool:
    if isinstance(value, str):
        return len(value) < 30_000  # an attribute has room for 64 kB, a character for 4 bytes
    if isinstance(value, bool | np.bool_):
        return False
    if isinstance(value, int | float):
        return isinstance(value, float) or -(2**63) <= value < 2**63
    if isinstance(value, list | tuple):
        kinds = {type(item) for item in value}
        return len(value) > 1 and (kinds <= {int, float} or kinds == {str}) and len(value) < 1000
    if isinstance(value, np.generic | np.ndarray):
        return value.dtype.kind in "iuf" and value.ndim <= 1 and 0 < value.nbytes < 60_000
    return False


def _as_json(value: Any) -> Any:
    """The nearest JSON; what has none, its text."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def _attribute(value: Any) -> Any:
    """As h5netcdf has it: text as it is, numbers as arrays."""
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, list | tuple) and value and isinstance(value[0], str):
        return np.array([storable_text(item) for item in value], dtype=h5py.string_dtype())
    return np.atleast_1d(np.asarray(value))


def _member_key(name: str, sizes: Mapping[str, int], variables: Mapping[Any, xr.Variable]) -> str:
    own_scale = name in sizes and variables[name].dims == (name,)
    return name if own_scale or name not in sizes else _NOT_A_COORDINATE + name


def _write_group(
    group: h5py.Group,
    sizes: Mapping[str, int],
    variables: Mapping[Any, xr.Variable],
    ids: Iterator[int],
) -> None:
    numbers = {dim: next(ids) for dim in sizes}
    datasets = {}
    for key, variable in variables.items():
        name = str(key)
        dataset = _write_values(group, _member_key(name, sizes, variables), variable.values)
        if name in sizes and variable.dims == (name,):
            datasets[name] = dataset
        for attribute, content in variable.attrs.items():
            dataset.attrs[str(attribute)] = (
                _fill_value(dataset, content)
                if (attribute == "_FillValue")
                else _attribute(content)
            )
    for dim, size in sizes.items():
        scale = datasets.get(dim)
        label = dim
        if scale is None:
            scale = group.create_dataset(dim, shape=(size,), dtype=">f4")
            label = f"{_BARE_DIMENSION}{size:>10}"
        h5py.h5ds.set_scale(scale.id, label.encode())
        scale.attrs["_Netcdf4Dimid"] = np.int32(numbers[dim])
        datasets[dim] = scale
    for key, variable in variables.items():
        name = _member_key(str(key), sizes, variables)
        if variable.ndim:
            dims = [str(dim) for dim in variable.dims]
            _set_dimensions(
                group[name], [datasets[dim] for dim in dims], [numbers[d] for d in dims]
            )


def _set_dimensions(dataset: h5py.Dataset, scales: list[h5py.Dataset], numbers: list[int]) -> None:
    for axis, scale in enumerate(scales):
        if scale != dataset:  # a scale cannot be attached to itself
            h5py.h5ds.attach_scale(dataset.id, scale.id, axis)
    dataset.attrs["_Netcdf4Coordinates"] = np.array(numbers, dtype=np.int32)
    dataset.attrs["_Netcdf4Dimid"] = np.int32(numbers[0])


def _fill_value(dataset: h5py.Dataset, value: Any) -> npt.NDArray[Any]:
    return np.atleast_1d(np.asarray(value, dtype=dataset.dtype))


def _write_values(group: h5py.Group, name: str, values: npt.NDArray[Any]) -> h5py.Dataset:
    if values.dtype.kind == "c" and values.dtype.itemsize in _COMPLEX_TYPES:
        # netCDF readers know complex numbers by the name of a type that stands in the group.
        committed = _COMPLEX_TYPES[values.dtype.itemsize]
        if committed not in group:
            group[committed] = values.dtype
        return write_array(group, name, values, dtype=group[committed])
    return write_array(group, name, values)


def write_array(
    group: h5py.Group, name: str, values: npt.NDArray[Any], *, dtype: Any = None
) -> h5py.Dataset:
    """Write an array of numbers, texts or records as a dataset; arrays of numbers compressed."""
    if values.dtype.kind in "OU":
        texts = np.array([storable_text(str(text)) for text in values.flat], dtype=object)
        return group.create_dataset(
            name, data=texts.reshape(values.shape), dtype=h5py.string_dtype()
        )
    # Below about a kilobyte the index of the chunks takes more room than compression saves.
    if values.ndim == 0 or values.nbytes < 1024:
        return group.create_dataset(name, data=values, dtype=dtype)
    return group.create_dataset(
        name, data=values, dtype=dtype, compression="gzip", compression_opts=1, shuffle=True
    )


# ---------------------------------------------------------------- reading


def read_dataset(group: h5py.Group) -> xr.Dataset:
    """Read a group as a Dataset, decoded by xarray's conventions and loaded."""
    import xarray as xr

    variables = {}
    beside: dict[str, Any] = {}
    for key, dataset in group.items():
        if not isinstance(dataset, h5py.Dataset) or _is_bare_dimension(dataset):
            continue
        name = key.removeprefix(_NOT_A_COORDINATE)
        attributes = _read_attributes(dataset)
        beside[name] = json.loads(attributes.pop(_OTHER_ATTRIBUTES, "{}"))
        dims = [_scale_name(dataset, axis) for axis in range(dataset.ndim)]
        variables[name] = xr.Variable(dims, _read_values(dataset), attributes)
    attributes = _read_attributes(group)
    rest = json.loads(attributes.pop(_OTHER_ATTRIBUTES, "{}"))
    indexes = json.loads(attributes.pop(_MULTI_INDEXES, "{}"))
    raw = xr.Dataset(variables, attrs=attributes)
    dataset = xr.decode_cf(raw, decode_timedelta=_timedelta_coder()).load()
    for name, others in beside.items():
        dataset[name].attrs.update(others)
    dataset.attrs.update(rest)
    for dim, levels in indexes.items():
        dataset = dataset.set_index({dim: levels})
    return dataset


def read_dataarray(group: h5py.Group) -> xr.DataArray:
    """Read a group that holds one DataArray. ValueError if it holds another number of them."""
    dataset = read_dataset(group)
    if len(dataset.data_vars) != 1:
        members = ", ".join(map(str, dataset.data_vars)) or "none"
        raise ValueError(f"{group.name} holds no single DataArray but: {members}")
    ((name, array),) = dataset.data_vars.items()
    stored = dataset.attrs.get(_NAME)
    array.name = stored if stored is not None else (None if name == UNNAMED else name)
    return array


def _timedelta_coder() -> Any:
    # By their units alone, lengths of time and numbers whose units are seconds look the same.
    from xarray import coders

    if hasattr(coders, "CFTimedeltaCoder"):
        return coders.CFTimedeltaCoder(decode_via_units=False)
    return False


def _is_bare_dimension(dataset: h5py.Dataset) -> bool:
    name = dataset.attrs.get("NAME", b"")
    return isinstance(name, bytes) and name.startswith(_BARE_DIMENSION.encode())


def _scale_name(dataset: h5py.Dataset, axis: int) -> str:
    scales = dataset.dims[axis]
    if len(scales):
        return str(scales[0].name).rpartition("/")[2]
    if h5py.h5ds.is_scale(dataset.id):
        return str(dataset.name).rpartition("/")[2]
    return f"dim_{axis}"


def _read_values(dataset: h5py.Dataset) -> npt.NDArray[Any]:
    if h5py.check_string_dtype(dataset.dtype) is None:
        return np.asarray(dataset[()])
    return np.asarray(dataset.asstr()[()], dtype=str)


def _read_attributes(owner: h5py.Group | h5py.Dataset) -> dict[str, Any]:
    ours = _OF_FORMAT - {_OTHER_ATTRIBUTES, _MULTI_INDEXES, _NAME}
    found = {}
    for name in owner.attrs:
        if name not in ours:
            value = owner.attrs[name]
            if isinstance(value, np.ndarray) and value.dtype.kind == "O":
                value = list(value)
            if np.size(value) == 1 and isinstance(value, np.ndarray):
                value = value[0]
            found[name] = value
    return found


# ---------------------------------------------------------------- moving between files


def copy(source: h5py.Group, target: h5py.Group, path: str, ids: Iterator[int]) -> None:
    """Copy the object at `path` from one file to the same path of another.

    HDF5's own copy leaves the references between variables and their dimensions pointing nowhere:
    they are made anew, and the dimensions numbered anew from `ids`.
    """
    h5py.h5o.copy(source.id, path.encode(), target.id, path.encode())
    copied = target[path]
    if isinstance(copied, h5py.Group) and "_damnit_objtype" in copied.attrs:
        _rebuild_scales(source[path], copied, ids)


def _rebuild_scales(source: h5py.Group, copied: h5py.Group, ids: Iterator[int]) -> None:
    datasets = {key: item for key, item in source.items() if isinstance(item, h5py.Dataset)}
    scales = {key for key, item in datasets.items() if h5py.h5ds.is_scale(item.id)}
    numbers = {key: next(ids) for key in sorted(scales, key=_number_of(datasets))}
    dims = {
        key: [_scale_name(item, axis) for axis in range(item.ndim)]
        for key, item in datasets.items()
    }
    for key in datasets:
        for broken in ("DIMENSION_LIST", "REFERENCE_LIST"):
            if broken in copied[key].attrs:
                del copied[key].attrs[broken]
    for key, names in dims.items():
        if key in scales:
            copied[key].attrs["_Netcdf4Dimid"] = np.int32(numbers[key])
        if (
            names
            and all(name in scales for name in names)
            and not _is_bare_dimension(datasets[key])
        ):
            _set_dimensions(
                copied[key], [copied[name] for name in names], [numbers[name] for name in names]
            )


def _number_of(datasets: Mapping[str, h5py.Dataset]) -> Any:
    return lambda key: int(datasets[key].attrs.get("_Netcdf4Dimid", 0))
