"""What an API for reading gives, as JSON with types: ours or the published one.

Imported by the Python of either, so it needs nothing but what both have.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import xarray as xr


def described(value: Any) -> dict[str, Any]:
    """Give a value as JSON, with its type."""
    kind = type(value).__name__
    if isinstance(value, xr.DataArray):
        coords = {str(name): described(coord.values) for name, coord in value.coords.items()}
        attrs = {name: described(attr) for name, attr in value.attrs.items()}
        whole = {"name": value.name, "dims": value.dims, "coords": coords, "attrs": attrs}
        return {"type": kind, **whole, "values": described(value.values)["values"]}
    if isinstance(value, xr.Dataset):
        members = {str(name): described(member) for name, member in value.items()}
        attrs = {name: described(attr) for name, attr in value.attrs.items()}
        return {"type": kind, "members": members, "attrs": attrs}
    if isinstance(value, (np.ndarray, np.generic)):
        plain = value.astype(str) if value.dtype.kind in "cMm" else value
        return {"type": kind, "dtype": value.dtype.str, "values": plain.tolist()}
    if isinstance(value, bytes):
        return {"type": kind, "values": value.hex()}
    if isinstance(value, complex):
        return {"type": kind, "values": [value.real, value.imag]}
    if hasattr(value, "to_plotly_json"):
        return {"type": kind, "values": value.to_json()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"type": kind, "values": value}
    return {"type": kind, "values": str(value)}


def attempt(function: Callable[[], Any]) -> dict[str, Any]:
    """Describe what a call gives, or what it raises."""
    try:
        return described(function())
    except Exception as error:  # noqa: BLE001 - it is what the test looks at
        return {"type": "raised", "values": f"{type(error).__name__}: {error}"}


def everything(database: Any, run: int) -> dict[str, Any]:
    """Give what `Damnit` or a `RunTable` has of a run, and its table, as JSON."""
    variables = database[run]
    keys, titles = list(variables.keys()), list(variables.titles())
    found: dict[str, Any] = {"keys": keys, "titles": titles}
    found["variables"] = {name: _variable(variables[name]) for name in keys}
    for with_titles, key in ((True, "table"), (False, "names")):
        rows = database.table(with_titles=with_titles).to_dict(orient="records")
        found[key] = [{name: described(value) for name, value in row.items()} for row in rows]
    return found


def _variable(variable: Any) -> dict[str, Any]:
    return {
        "read": attempt(variable.read),
        "summary": attempt(variable.summary),
        "preview": attempt(variable.preview_data),
        "own_preview": attempt(partial(variable.preview_data, data_fallback=False)),
        "type_hint": attempt(lambda: getattr(variable.type_hint(), "name", None)),
        "units": variable.units,
        "title": variable.title,
    }
