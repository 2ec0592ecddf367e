"""Small plain results as JSON, so that they travel in the journal line itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

_MOST_CHARACTERS = 8000


def encode_plain(data: object) -> dict[str, Any] | None:
    """Give a small plain result (as `normalise` made it) as JSON; None if it is none.

    Plain are bool, int, float, complex, text of at most 8000 characters, and NumPy scalars, which
    keep their type. Non-finite numbers become texts.
    """
    if isinstance(data, np.generic):
        return _encode_numpy(data)
    if isinstance(data, bool | int):
        return {"type": type(data).__name__, "value": data}
    if isinstance(data, float):
        return {"type": "float", "value": _number(data)}
    if isinstance(data, complex):
        return {"type": "complex", "value": [_number(data.real), _number(data.imag)]}
    if isinstance(data, str) and len(data) <= _MOST_CHARACTERS:
        return {"type": "str", "value": data}
    return None


def _encode_numpy(data: np.generic) -> dict[str, Any] | None:
    dtype = data.dtype
    value: object
    if dtype.kind in "mM":
        value = int(data.astype(np.int64))
    elif dtype.kind in "biu":
        value = data.item()
    elif dtype.kind == "f" and dtype.itemsize <= 8:
        value = _number(float(data))
    elif dtype.kind == "c" and dtype.itemsize <= 16:
        number = complex(data)
        value = [_number(number.real), _number(number.imag)]
    else:
        return None
    # "bool" is Python's.
    return {"type": "bool_" if dtype.kind == "b" else dtype.name, "value": value}


def _number(value: float) -> float | str:
    return float(value) if math.isfinite(value) else repr(float(value))


def decode_plain(data: Mapping[str, Any]) -> Any:
    """Give back what `encode_plain` was given."""
    kind, value = data["type"], data["value"]
    if kind in ("str", "bool", "int"):
        return value
    if kind == "float":
        return float(value)
    if kind == "complex":
        return complex(float(value[0]), float(value[1]))
    dtype = np.dtype(kind)
    if dtype.kind == "c":
        return dtype.type(complex(float(value[0]), float(value[1])))
    if dtype.kind in "mM":
        return np.int64(value).astype(dtype)
    return dtype.type(value)
