"""What a variable may return, brought into the few forms that run files hold.

A library is only looked for among the modules that are already imported: a value of its type
cannot exist otherwise.
"""

from __future__ import annotations

import datetime as dt
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ctxlib.errors import UnsavableError
from ctxlib.text import storable_text

if TYPE_CHECKING:
    import xarray as xr

_MEND = "return a number, a text, an array, an xarray object, a figure, or mark it transient=True"


def normalise(value: object) -> tuple[Any, str | None]:
    """Give the data to save and its object type.

    The data is None, a Python or NumPy scalar, a text, an array (not copied where it is one
    already), a DataArray or a Dataset. The object type is `dataarray`, `dataset`, `timestamp`,
    `image` (the data is then uint8 of shape (y, x, 4)), `PlotlyFigure` (its JSON as uint8) or
    None. Raises UnsavableError, naming the type.
    """
    if isinstance(value, np.generic):
        return _numpy_scalar(value)
    if value is None or isinstance(value, bool):
        return value, None
    # What a class of the user's makes of itself is nothing that the value depends on.
    if isinstance(value, float):
        return float.__float__(value), None
    if isinstance(value, complex):
        return complex.__pos__(value), None
    if isinstance(value, str):
        return storable_text(str.__str__(value)), None
    if isinstance(value, bytes):
        return _from_bytes(value), None
    if isinstance(value, int):
        return _integer(int.__int__(value)), None
    if isinstance(value, dt.datetime | dt.date | dt.timedelta):
        return _numpy_scalar(_time(value))
    return _normalise_object(value)


def _normalise_object(value: object) -> tuple[Any, str | None]:
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, list | tuple | range):
        return _array(_from_sequence(value))
    if _is_instance(value, "xarray", "DataArray", "Dataset"):
        return _xarray(value)
    if _is_instance(value, "pandas", "Series", "DataFrame"):
        from ctxlib.frames import from_pandas

        return _xarray(from_pandas(value))
    if _is_instance(value, "matplotlib.figure", "FigureBase"):
        return _figure_pixels(value), "image"
    if _is_instance(value, "matplotlib.axes", "Axes"):
        return _figure_pixels(value.figure), "image"  # type: ignore[attr-defined]
    if _is_instance(value, "plotly.basedatatypes", "BaseFigure"):
        return np.frombuffer(value.to_json().encode(), dtype=np.uint8), "PlotlyFigure"  # type: ignore[attr-defined]
    if hasattr(value, "__array__"):  # dask, PyTorch, pandas.Index and their like
        return _array(np.asarray(value))
    raise unsavable(value)


def unsavable(value: object, where: str = "") -> UnsavableError:
    """The error that names the type of a value which cannot be saved."""
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else _full_name(kind)
    return UnsavableError(f"{where}{name} cannot be saved: {_MEND}")


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_instance(value: object, module: str, *classes: str) -> bool:
    loaded = sys.modules.get(module)
    types = tuple(getattr(loaded, name) for name in classes if hasattr(loaded, name))
    return bool(types) and isinstance(value, types)


def _integer(value: int) -> int:
    if -(2**63) <= value < 2**64:
        return value
    try:
        shown, mend = f"{value:.3e}", "float(…) or str(…)"
    except OverflowError:
        shown, mend = f"of {value.bit_length()} bits", "hex(…)"
    raise UnsavableError(
        f"int {shown} cannot be saved: it does not fit into 64 bits; return {mend}"
    )


def _from_bytes(value: bytes) -> str:
    # HDF5 has no bytes beside text and arrays, and other readers decode them anyway.
    return storable_text(value.decode("utf-8", "backslashreplace"))


def _time(value: dt.date | dt.timedelta) -> np.datetime64 | np.timedelta64:
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        value = value.astimezone(dt.timezone.utc).replace(tzinfo=None)
    for method in ("to_datetime64", "to_timedelta64"):  # pandas keeps its nanoseconds
        if hasattr(value, method):
            return getattr(value, method)()  # type: ignore[no-any-return]
    if isinstance(value, dt.timedelta):
        return np.timedelta64(value, "us")
    return np.datetime64(value, "us")


def _numpy_scalar(value: np.generic) -> tuple[Any, str | None]:
    kind = value.dtype.kind
    if kind in "biufc":
        return value, None
    if kind == "U":
        return storable_text(str(value)), None
    if kind == "S":
        return _from_bytes(bytes(value)), None  # type: ignore[call-overload]
    if isinstance(value, np.datetime64):
        return _in_nanoseconds(value), "timestamp"
    if isinstance(value, np.timedelta64):
        return _in_nanoseconds(value), None
    raise unsavable(value)


def _from_sequence(value: list[Any] | tuple[Any, ...] | range) -> npt.NDArray[Any]:
    kind = type(value).__name__
    try:
        array = np.asarray(value)
    except ValueError:
        raise UnsavableError(
            f"{kind} cannot be saved: its items have different shapes; "
            "return an array, or several variables"
        ) from None
    # NumPy makes texts of numbers that stand beside texts.
    if array.dtype.kind == "U" and not all(
        isinstance(item, str) for item in np.asarray(value, dtype=object).flat
    ):
        raise UnsavableError(f"{kind} cannot be saved: texts and other items are mixed in it")
    return array


def _in_nanoseconds(value: np.datetime64 | np.timedelta64) -> np.datetime64 | np.timedelta64:
    unit = "datetime64[ns]" if isinstance(value, np.datetime64) else "timedelta64[ns]"
    exact: np.datetime64 | np.timedelta64 = value.astype(unit)
    # Beyond the years 1678 to 2261 the numbers wrap around.
    if exact.astype(value.dtype) != value and not np.isnat(value):
        raise UnsavableError(f"{value!s} cannot be saved: 64 bits hold no nanoseconds that far off")
    return exact


def _array(array: npt.NDArray[Any]) -> tuple[Any, str | None]:
    if isinstance(array, np.ma.MaskedArray):
        masked = np.ma.getmaskarray(array)
        array = np.where(masked, np.nan, array.data) if masked.any() else array.data
    array = np.asarray(array)  # a np.matrix stays two-dimensional whatever is done to it
    kind = array.dtype.kind
    if array.ndim == 0 and kind != "V":
        return normalise(array[()])
    if kind in "biufcU":
        return array, None
    if kind == "T":
        return array.astype(str), None
    if kind == "S":
        return np.char.decode(array, "utf-8", "backslashreplace"), None
    if kind in "mM":
        return array.astype(time_dtype(array.dtype), copy=False), None
    if kind == "V" and _is_flat_record(array.dtype):
        return array, None
    if kind == "O":
        return _object_array(array)
    raise UnsavableError(f"array of {array.dtype} cannot be saved: {_MEND}")


def time_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The nearest unit that files can hold: s, ms, us or ns."""
    unit = np.datetime_data(dtype)[0]
    name = "datetime64" if dtype.kind == "M" else "timedelta64"
    coarse = {"Y": "s", "M": "s", "W": "s", "D": "s", "h": "s", "m": "s"}
    if unit in ("Y", "M") and dtype.kind == "m":
        raise UnsavableError(f"array of {dtype} cannot be saved: years and months vary in length")
    return np.dtype(f"{name}[{coarse.get(unit, unit if unit in ('s', 'ms', 'us') else 'ns')}]")


def _is_flat_record(dtype: np.dtype[Any]) -> bool:
    fields = (dtype.fields or {}).values()
    return bool(fields) and all(field[0].base.kind in "biufcS" for field in fields)


def _object_array(array: npt.NDArray[Any]) -> tuple[Any, str | None]:
    """Texts, or the axes of one Matplotlib figure; anything else cannot be saved."""
    items = array.ravel()
    if len(items) and all(isinstance(item, str) for item in items):
        return array.astype(str), None
    if len(items) and all(_is_instance(item, "matplotlib.axes", "Axes") for item in items):
        return normalise(items[0])
    plain = (str, int, float, complex, np.generic)
    odd = next((item for item in items if not isinstance(item, plain)), array)
    if odd is array:
        raise UnsavableError(f"array of objects cannot be saved: it holds no one type; {_MEND}")
    raise unsavable(odd, "array of objects: ")


def _xarray(value: Any) -> tuple[Any, str]:
    import xarray as xr

    if value.chunks:
        value = value.compute()  # once, not at each use
    parts: dict[Any, xr.Variable] = dict(value.variables if hasattr(value, "variables") else {})
    if isinstance(value, xr.DataArray):
        parts = {value.name: value.variable, **{key: c.variable for key, c in value.coords.items()}}
    for name, part in parts.items():
        if part.dtype.kind == "O" and not _is_made_of_levels(value, name):
            _check_texts(name, part)
        elif part.dtype.kind == "V":
            raise UnsavableError(f"{name!r}: array of {part.dtype} cannot be saved: {_MEND}")
    return value, "dataset" if isinstance(value, xr.Dataset) else "dataarray"


def _is_made_of_levels(value: Any, name: Any) -> bool:
    """Whether a coordinate has the tuples of a MultiIndex, whose levels are saved instead."""
    index = value.indexes.get(name) if name in value.coords else None
    return getattr(index, "nlevels", 1) > 1


def _check_texts(name: object, part: xr.Variable) -> None:
    for item in part.values.ravel():
        missing = item is None or (isinstance(item, float) and np.isnan(item))
        if not (missing or isinstance(item, str | bytes)):
            raise unsavable(item, f"{name!r}: array of objects: ")


def _figure_pixels(figure: Any) -> npt.NDArray[np.uint8]:
    """Draw a Matplotlib figure; a pyplot one is closed, as pyplot would keep it for ever."""
    root = figure
    while getattr(root, "figure", root) not in (root, None):
        root = root.figure
    canvas = root.canvas
    if not hasattr(canvas, "buffer_rgba"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = FigureCanvasAgg(root)
    canvas.draw()
    pixels = np.array(canvas.buffer_rgba())
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close(root)
    return pixels
