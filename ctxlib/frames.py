"""pandas objects as xarray ones, the index becoming a coordinate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ctxlib.errors import UnsavableError

if TYPE_CHECKING:
    import xarray as xr


def from_pandas(value: Any) -> xr.DataArray | xr.Dataset:
    """Turn a Series into a DataArray and a DataFrame into a Dataset, along one dimension.

    The dimension is called like the index, or `index`; the levels of a MultiIndex become
    coordinates along it. Names become texts, values of pandas' own types become NumPy's: missing
    integers NaN, times with a zone UTC, categories what they stand for, periods texts. Raises
    UnsavableError for two columns of the same name.
    """
    import xarray as xr

    if value.ndim == 1:
        coordinates, dim = _coordinates(value.index, taken=())
        name = None if value.name is None else str(value.name)
        return xr.DataArray(_values(value), dims=dim, coords=coordinates, name=name)
    names = [str(name) for name in value.columns]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise UnsavableError(f"DataFrame cannot be saved: rename one of the columns {doubled[0]!r}")
    coordinates, dim = _coordinates(value.index, taken=names)
    columns = {name: (dim, _values(value.iloc[:, i])) for i, name in enumerate(names)}
    return xr.Dataset(columns, coords=coordinates)


def _coordinates(index: Any, *, taken: list[str] | tuple[()]) -> tuple[dict[str, Any], str]:
    """The coordinates made of an index, and the dimension that they lie along."""
    several = index.nlevels > 1
    dim = "index" if several or index.name is None else str(index.name)
    while dim in taken:
        dim += "_"
    if not several:
        return {dim: (dim, _values(index))}, dim
    names = [f"level_{i}" if name is None else str(name) for i, name in enumerate(index.names)]
    parts = [_values(index.get_level_values(i)) for i in range(index.nlevels)]
    return {name: (dim, part) for name, part in zip(names, parts, strict=True)}, dim


def _values(column: Any) -> npt.NDArray[Any]:
    import pandas as pd

    dtype = column.dtype
    if isinstance(dtype, np.dtype):
        return np.asarray(column)
    if isinstance(dtype, pd.CategoricalDtype):
        return np.asarray(column)
    series = pd.Series(column.array)
    if isinstance(dtype, pd.DatetimeTZDtype):
        return np.asarray(series.dt.tz_convert("UTC").dt.tz_localize(None))
    if pd.api.types.is_numeric_dtype(dtype):
        missing = series.isna().any()
        return np.asarray(series.to_numpy(dtype=float if missing else dtype.type, na_value=np.nan))
    if pd.api.types.is_string_dtype(dtype):
        return np.asarray(series.to_numpy(dtype=object, na_value=""))
    return np.asarray(series.astype(str), dtype=object)
