"""How one result lies in an HDF5 file: its data, its summary and its preview.

The paths and attributes are those that DAMNIT's own readers know; what starts with
`_damnit_runtable_` is ours, and they do not look at it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from ctxlib import netcdf
from ctxlib.attributes import OURS, read_own
from ctxlib.summary import Summary
from ctxlib.text import storable_text

HIDDEN = (".reduced", ".preview", ".errors")
START_TIME = "start_time"
OBJTYPE = "_damnit_objtype"
ORIGIN = OURS + "origin"
_OWN_OBJTYPE = OURS + "objtype"  # `array`: a DataArray to other readers, an array to ours
_DTYPE = OURS + "dtype"
_PNG = b"\x89PNG"


def write_data(
    file: h5py.File, name: str, data: Any, objtype: str | None, ids: Iterator[int]
) -> h5py.Group:
    """Write the data of a result, in a form that `normalise` gives, as the group `name`."""
    if _needs_netcdf(data, objtype):
        return _write_netcdf(file, name, data, objtype, ids)
    group = file.create_group(name)
    if data is not None:
        _write_value(group, "data", data)
    if objtype is not None:
        group.attrs[OBJTYPE] = objtype
    return group


def write_preview(
    file: h5py.File, name: str, data: Any, objtype: str | None, ids: Iterator[int]
) -> None:
    """Write a preview, in a form that `normalise` gives, at `.preview/<name>`."""
    if data is None:
        return
    path = f".preview/{name}"
    if _needs_netcdf(data, objtype):
        _write_netcdf(file, path, data, objtype, ids)
        return
    dataset = _write_value(file, path, data)
    if objtype is not None:
        dataset.attrs[OBJTYPE] = objtype


def _needs_netcdf(data: Any, objtype: str | None) -> bool:
    # Arrays of texts and times too: other readers give only the first item of a plain one of
    # texts, and HDF5 has no times.
    array_without_type = isinstance(data, np.ndarray) and data.dtype.kind in "UmM"
    return objtype in ("dataarray", "dataset") or array_without_type


def _write_netcdf(
    file: h5py.File, path: str, data: Any, objtype: str | None, ids: Iterator[int]
) -> h5py.Group:
    group = file.create_group(path)
    if objtype is None:
        from xarray import DataArray

        data = DataArray(data, name="data")
        group.attrs[_OWN_OBJTYPE] = "array"
    netcdf.write(group, data, ids)
    group.attrs[OBJTYPE] = objtype or "dataarray"
    return group


def _write_value(group: h5py.Group, name: str, data: Any) -> h5py.Dataset:
    if isinstance(data, str):
        return group.create_dataset(name, data=data, dtype=h5py.string_dtype())
    if isinstance(data, np.datetime64 | np.timedelta64):
        dataset = group.create_dataset(name, data=data.astype(np.int64))
        dataset.attrs[_DTYPE] = data.dtype.name
        return dataset
    return netcdf.write_array(group, name, np.asarray(data))


def read_object(item: h5py.Group | h5py.Dataset, *, deserialize_plotly: bool = True) -> Any:
    """Read data or a preview as round-trip says; KeyError when it holds no data.

    A Plotly figure is given as such, or as its JSON text without `deserialize_plotly`.
    """
    objtype = item.attrs.get(OBJTYPE)
    if objtype == "dataarray":
        array = netcdf.read_dataarray(item)
        return array.values if read_own(item, _OWN_OBJTYPE) == "array" else array
    if objtype == "dataset":
        return netcdf.read_dataset(item)
    dataset = item["data"] if isinstance(item, h5py.Group) else item
    value = _read_value(dataset)
    if objtype == "PlotlyFigure":
        text = value.tobytes().decode()
        if not deserialize_plotly:
            return text
        import plotly.io

        return plotly.io.from_json(text)
    if objtype in ("series", "dataframe"):  # DAMNIT's, as Parquet
        import pandas as pd

        frame = pd.read_parquet(io.BytesIO(value.tobytes()))
        return frame if objtype == "dataframe" else frame.iloc[:, 0]
    return value


def object_type(item: h5py.Group | h5py.Dataset) -> str | None:
    """The object type of what `read_object` gives; None for numbers, texts and arrays."""
    objtype = item.attrs.get(OBJTYPE)
    return None if read_own(item, _OWN_OBJTYPE) == "array" else objtype


def _read_value(dataset: h5py.Dataset) -> Any:
    if h5py.check_string_dtype(dataset.dtype) is not None:
        text = dataset.asstr(errors="backslashreplace")[()]
        return text if isinstance(text, str) else np.asarray(text, dtype=str)
    value = dataset[()]
    dtype = read_own(dataset, _DTYPE)
    return value if dtype is None else value.astype(dtype)


def write_summary(file: h5py.File, name: str, summary: Summary) -> None:
    """Write a summary at `.reduced/<name>`; one without a value leaves nothing."""
    value = summary.value
    if value is None:
        return
    reduced = file[".reduced"]
    if isinstance(value, str):
        dataset = reduced.create_dataset(name, data=storable_text(value), dtype=h5py.string_dtype())
    elif isinstance(value, bytes):
        dataset = reduced.create_dataset(name, data=_from_bytes(value, summary.type))
    else:
        dataset = reduced.create_dataset(name, data=value)
    attributes: dict[str, Any] = {
        "summary_type": summary.type,
        "summary_method": summary.method,
        "max_diff": summary.max_diff,
        **summary.attributes,
    }
    if "background" in attributes:
        attributes["background"] = np.array(attributes["background"], dtype=np.uint8)
    for key, content in attributes.items():
        if content is not None:
            dataset.attrs[key] = content


def _from_bytes(value: bytes, kind: str | None) -> Any:
    if kind == "complex":
        return np.frombuffer(value, dtype="<c16")[0]
    if kind in ("trendline", "numpy"):
        return np.load(io.BytesIO(value), allow_pickle=False)
    return np.frombuffer(value, dtype=np.uint8)


def read_summary(dataset: h5py.Dataset) -> Summary:
    """Read what `write_summary`, or DAMNIT, wrote."""
    value = _read_value(dataset)
    attributes = {
        key: _plain(content) for key, content in dataset.attrs.items() if not key.startswith("_")
    }
    kind = attributes.pop("summary_type", None)
    if isinstance(value, np.ndarray):
        value, kind = _to_bytes(value, kind)
    elif isinstance(value, np.complexfloating):
        value, kind = np.array([value], dtype="<c16").tobytes(), "complex"
    return Summary(
        value=_plain(value),
        type=kind,
        method=attributes.pop("summary_method", None),
        max_diff=attributes.pop("max_diff", None),
        attributes=attributes,
    )


def _to_bytes(value: Any, kind: str | None) -> tuple[bytes, str | None]:
    if value.dtype == np.uint8 and value.tobytes()[:4] == _PNG:
        return value.tobytes(), None
    buffer = io.BytesIO()
    np.save(buffer, value, allow_pickle=False)
    return buffer.getvalue(), kind or "numpy"


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value
