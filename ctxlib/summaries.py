"""What a table cell shows of a result, and the result in the form in which it is saved."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ctxlib.cell import Cell
from ctxlib.errors import UnsavableError, describe, shortened
from ctxlib.images import array_thumbnail, picture_thumbnail
from ctxlib.normalise import normalise
from ctxlib.summary import PLOTLY_PLACEHOLDER, Summary
from ctxlib.text import storable_text
from ctxlib.trendline import as_numbers, trendline

_LARGEST_NUMBER_IN_SQLITE = 2**63 - 1
_FILE = "the run file"
_MOST_SUMMARY_ITEMS = 1000  # a function like cumsum would put the whole result into the table

Log = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """A result ready to be saved: `normalise` says which forms data and preview have."""

    data: Any
    objtype: str | None
    summary: Summary
    preview: Any = None
    preview_objtype: str | None = None


def prepare(
    value: object, *, summary: str | None = None, units: str | None = None, log: Log
) -> Prepared:
    """Bring what a variable returned, a Cell or not, into the form in which it is saved.

    `summary` and `units` are the variable's; a Cell's own win over them, and `units` win over a
    DataArray's attribute. A summary function that fails is logged, and the default summary takes
    its place. Raises UnsavableError for what cannot be saved, TypeError for a preview that cannot
    be drawn.
    """
    cell = value if isinstance(value, Cell) else Cell(value)
    data, objtype = normalise(cell.data)
    preview, preview_objtype = _preview(cell.preview)
    shown, kind, method = _summarise(cell, data, objtype, preview, preview_objtype, summary, log)
    attributes: dict[str, Any] = {}
    units = cell.units or units or _own_units(data)
    if units:
        attributes["units"] = shortened(storable_text(units))
    if cell.bold is not None:
        attributes["bold"] = cell.bold
    if cell.background is not None:
        attributes["background"] = [int(part) for part in cell.background]
    made = Summary(shown, kind, method, _max_diff(data, objtype), attributes)
    return Prepared(data, objtype, made, preview, preview_objtype)


def _preview(given: object) -> tuple[Any, str | None]:
    try:
        preview, objtype = normalise(given)
    except UnsavableError as error:
        raise UnsavableError(_no_preview(given)) from error
    except Exception as error:
        # A figure is drawn, and can be made of anything.
        raise TypeError(f"Cell(preview=...) cannot be drawn: {describe(error)}") from error
    _check_preview(given, preview, objtype)
    return preview, objtype


def _check_preview(given: object, preview: Any, objtype: str | None) -> None:
    if preview is None or objtype in ("image", "PlotlyFigure"):
        return
    is_array = isinstance(preview, np.ndarray) or objtype == "dataarray"
    if is_array and preview.ndim in (1, 2) and preview.dtype.kind in "biufc":
        return
    more = ""
    if is_array:
        more = f" of {preview.ndim} dimensions, shape {preview.shape}, of {preview.dtype}"
    raise TypeError(_no_preview(given, more))


def _no_preview(given: object, more: str = "") -> str:
    return (
        f"Cell(preview=...) is a {type(given).__name__}{more}: give numbers in an array of one or "
        f"two dimensions, or a Matplotlib or Plotly figure"
    )


Shown = tuple[Any, str | None]  # a summary's value and type


def _summarise(
    cell: Cell,
    data: Any,
    objtype: str | None,
    preview: Any,
    preview_objtype: str | None,
    function: str | None,
    log: Log,
) -> tuple[Any, str | None, str | None]:
    """Value, type and method of the summary, from the first that gives one."""
    if cell.summary_value is not None:
        return *_cut(*_exact(*normalise(cell.summary_value))), None
    name = cell.summary or function
    if name and data is not None:
        try:
            return *_cut(*_reduced(name, data, objtype), whole_in=_FILE), name
        except Exception as error:  # noqa: BLE001 - whatever a function of NumPy raises
            log(
                f"summary {name!r} failed, showing the default one: {type(error).__name__}: {error}"
            )
    if preview is not None:
        return *_default(preview, preview_objtype), None
    return *_cut(*_default(data, objtype), whole_in=_FILE), None


def _cut(value: Any, kind: str | None, whole_in: str = "") -> Shown:
    """Leave out the middle of a text that is longer than any table bears."""
    return (shortened(value, whole_in=whole_in) if isinstance(value, str) else value), kind


def _reduced(name: str, data: Any, objtype: str | None) -> Shown:
    function = getattr(np, name, None)
    if not callable(function):
        raise ValueError(f"NumPy has no function of that name ({name}); try mean or nanmax")
    if objtype in ("image", "PlotlyFigure"):
        raise TypeError("a figure has no numbers to reduce")
    value, kind = normalise(function(data))
    if kind == "dataset" or np.size(value) > _MOST_SUMMARY_ITEMS:
        raise TypeError(f"it gave no single number but {type(value).__name__}")
    return _exact(value, kind)


def _exact(data: Any, objtype: str | None) -> Shown:
    """Show the value as it is, not reduced; pictures and Datasets as by default."""
    if objtype in ("image", "PlotlyFigure", "dataset"):
        return _default(data, objtype)
    if objtype == "dataarray":
        data = normalise(data.values)[0]
    if not isinstance(data, np.ndarray):
        return _scalar(data)
    if data.dtype.kind in "biufcmM":
        return _npy(as_numbers(data) if data.dtype.kind in "mM" else data), "numpy"
    return _shape_text(data), None


def _default(data: Any, objtype: str | None) -> Shown:
    if objtype == "image":
        return picture_thumbnail(data), None
    if objtype == "PlotlyFigure":
        return PLOTLY_PLACEHOLDER, None
    if objtype == "dataset":
        return f"Dataset ({data.nbytes / 1e6:.2f}MB)", None
    if objtype == "dataarray":
        return _array_default(data.values, _line_coordinate(data))
    if isinstance(data, np.ndarray):
        return _array_default(data, None)
    return _scalar(data)


def _array_default(array: npt.NDArray[Any], x: npt.NDArray[Any] | None) -> Shown:
    kind = array.dtype.kind
    if array.ndim == 0:
        # A record of several fields has no one number to show.
        return (_shape_text(array), None) if kind == "V" else _scalar(normalise(array)[0])
    if array.ndim == 1 and kind in "biufcmM":
        return _npy(trendline(array, x)), "trendline"
    if array.ndim == 2 and array.size and kind in "biufc":
        return array_thumbnail(array), None
    return _shape_text(array), None


def _shape_text(array: npt.NDArray[Any]) -> str:
    kind = "string" if array.dtype.kind in "USTO" else str(array.dtype)
    return f"{kind}: {array.shape}"


def _line_coordinate(array: Any) -> npt.NDArray[Any] | None:
    """The numbers or times along the only dimension of a DataArray, if it has them."""
    if array.ndim != 1 or array.dims[0] not in array.coords:
        return None
    coordinate = array.coords[array.dims[0]].values
    return coordinate if coordinate.dtype.kind in "biufmM" else None


def _scalar(data: Any) -> Shown:
    """A scalar in the types that SQLite takes."""
    if isinstance(data, np.datetime64 | np.timedelta64):
        seconds = float(as_numbers(np.asarray(data)[None])[0])
        kind = "timestamp" if isinstance(data, np.datetime64) else None
        return (None, None) if math.isnan(seconds) else (seconds, kind)
    value = data.item() if isinstance(data, np.generic) else data
    if isinstance(value, np.longdouble):
        value = float(value)
    if isinstance(value, complex | np.clongdouble):
        return np.array([value], dtype="<c16").tobytes(), "complex"
    if isinstance(value, int) and value > _LARGEST_NUMBER_IN_SQLITE:
        value = float(value)
    return value, None


def _npy(array: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _own_units(data: Any) -> str | None:
    units = getattr(data, "attrs", {}).get("units")
    return units if isinstance(units, str) else None


def _max_diff(data: Any, objtype: str | None) -> float | None:
    """Largest minus smallest number of an array, NaN left out; None if there is no such thing."""
    if objtype == "dataarray":
        data = data.values
    elif objtype is not None:
        return None
    if not isinstance(data, np.ndarray) or data.ndim == 0 or data.dtype.kind not in "iufc":
        return None
    if data.size == 0:
        return None
    low, high = np.fmin.reduce(data, axis=None), np.fmax.reduce(data, axis=None)
    # As Python numbers, in which differences of large integers do not wrap around.
    difference = abs(high.item() - low.item()) if np.isfinite(high) and np.isfinite(low) else np.nan
    return None if np.isnan(difference) else float(difference)
