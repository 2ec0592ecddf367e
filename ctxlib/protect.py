"""Copies of results, so that a variable that changes what it was given changes only its own."""

from __future__ import annotations

import sys
from typing import Any

# Results of other types (figures, numbers, texts, open files) are handed on as they are.
_COPIED_BY = {
    "numpy": (("ndarray",), {}),
    "xarray": (("DataArray", "Dataset"), {"deep": True}),
    "pandas": (("Series", "DataFrame"), {"deep": True}),
}


def protected(value: object) -> object:
    """Copy arrays, xarray and pandas objects, and containers with what is in them."""
    return _copied(value, {})


def _copied(value: Any, known: dict[int, object]) -> Any:
    # `known` keeps what refers to itself, or twice to the same array, as it is.
    if id(value) in known:
        return known[id(value)]
    kind = type(value)
    if kind is list:
        copied: Any = known.setdefault(id(value), [])
        copied.extend(_copied(item, known) for item in value)
    elif kind is dict:
        copied = known.setdefault(id(value), {})
        copied.update((key, _copied(item, known)) for key, item in value.items())
    elif kind is tuple:
        copied = tuple(_copied(item, known) for item in value)
    elif kind is set:
        copied = set(value)
    else:
        copied = _array(value)
    known[id(value)] = copied
    return copied


def _array(value: Any) -> Any:
    for library, (names, options) in _COPIED_BY.items():
        # A value can only be of a library that has been imported.
        module = sys.modules.get(library)
        kinds = tuple(getattr(module, name) for name in names) if module is not None else ()
        if isinstance(value, kinds):
            return value.copy(**options)
    return value
