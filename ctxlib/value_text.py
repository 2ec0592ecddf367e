"""Writes values down so that equal ones have the same text in every process."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from ctxlib.group import is_group
from ctxlib.imports import is_own_module
from ctxlib.parameter import Parameter
from ctxlib.variable import Variable

_AS_SHOWN = (bool, int, float, complex, str, bytes, bytearray, range, type(None), type(...))
# Modules of the standard library whose objects are fully described by how they are shown.
_SHOWN_MODULES = ("datetime", "decimal", "fractions", "pathlib", "uuid", "zoneinfo")
_CODE = (types.FunctionType, types.ModuleType, type, Variable)
# What groups say of their columns; their name is part of the variables' names.
_OF_COLUMNS = ("title", "tags", "sep", "name")


class NotPlain(Exception):
    """A value cannot be described by what is in it."""


class ValueWriter:
    """Writes values to `texts`, and gathers in `code` the functions, classes and modules in them.

    `hidden` are attributes, pairs of an object's id and a name, that are left out.
    """

    def __init__(self, hidden: Iterable[tuple[int, str]] = ()) -> None:
        self.texts: list[str] = []
        self.code: list[Any] = []
        self._hidden = frozenset(hidden)
        self._open: set[int] = set()

    def write(self, value: Any) -> None:
        """Write a value and all that is in it; raises NotPlain."""
        kind = type(value)
        self.texts.append(f"{kind.__module__}.{kind.__qualname__}")
        if kind in _AS_SHOWN:
            self.texts.append(repr(value))
        elif isinstance(value, _CODE):
            self.code.append(value)
        elif id(value) in self._open:
            self.texts.append("itself")
        else:
            self._open.add(id(value))
            self._write_object(value)
            self._open.discard(id(value))

    def _write_object(self, value: Any) -> None:
        kind = type(value)
        if isinstance(value, (list, tuple)):
            self._write_all(value)
        elif isinstance(value, Mapping):
            self._write_all(part for item in value.items() for part in item)
        elif isinstance(value, (set, frozenset)):
            self._write_set(value)
        elif isinstance(value, Enum):
            self.texts.append(value.name)
            self.code.append(kind)
        elif isinstance(value, Parameter):
            self.texts.append(repr(value))
        elif is_group(value):
            self._write_attributes(value, without=_OF_COLUMNS)
        elif not self._write_code(value) and not self._write_known(value):
            self._write_attributes(value)

    def _write_code(self, value: Any) -> bool:
        """Write what is called rather than read."""
        if isinstance(value, functools.partial):
            self._write_all([value.func, value.args, value.keywords])
        elif isinstance(value, types.MethodType):
            self._write_all([value.__func__, value.__self__])
        elif isinstance(value, (staticmethod, classmethod)):
            self.write(value.__func__)
        elif isinstance(value, property):
            self._write_all([value.fget, value.fset])
        elif callable(value) and hasattr(value, "__wrapped__"):  # a cache around a function
            self.write(value.__wrapped__)
        elif isinstance(value, functools.cached_property):
            self.write(value.func)
        elif isinstance(getattr(value, "__self__", None), types.ModuleType) or _is_ufunc(value):
            self.texts.append(value.__name__)
        else:
            return False
        return True

    def _write_known(self, value: Any) -> bool:
        """Write the values of some libraries."""
        kind = type(value)
        library = kind.__module__.partition(".")[0]
        if kind.__module__ == "re":
            self._write_all([value.pattern, value.flags])
        elif library in _SHOWN_MODULES or kind is slice:
            self.texts.append(repr(value))
        elif library == "numpy" and hasattr(value, "tobytes"):
            self._write_array(value)
        elif library in ("pandas", "xarray") and hasattr(value, "to_dict"):
            self.write(value.to_dict())
        else:
            return False
        return True

    def _write_array(self, value: Any) -> None:
        self.texts += (value.dtype.str, str(value.dtype.names), str(value.shape))
        if value.dtype.hasobject:
            self._write_all(value.tolist() if value.shape else [value.item()])
        else:
            # A hexadecimal text would be twice as long as what may be large already.
            self.texts.append(value.tobytes().decode("latin-1"))

    def _write_all(self, values: Iterable[Any]) -> None:
        self.texts.append("[")
        for value in values:
            self.write(value)
        self.texts.append("]")

    def _write_set(self, values: Iterable[Any]) -> None:
        before, written = self.texts, []
        for value in values:
            self.texts = []
            self.write(value)
            written.append(self.texts)
        self.texts = before
        for texts in sorted(written):
            self.texts += texts

    def _write_attributes(self, value: Any, without: Iterable[str] = ()) -> None:
        """Write an object of the project's own classes by its attributes."""
        kind = type(value)
        if not is_own_module(kind.__module__):
            raise NotPlain(f"{kind.__module__}.{kind.__qualname__}")
        self.code.append(kind)
        attributes = dict(getattr(value, "__dict__", {}))
        for base in kind.__mro__:
            slots = vars(base).get("__slots__", ())
            for slot in (slots,) if isinstance(slots, str) else slots:
                if hasattr(value, slot):
                    attributes.setdefault(slot, getattr(value, slot))
        for name, attribute in sorted(attributes.items()):
            internal = name.startswith("__")
            if not (internal or name in without or (id(value), name) in self._hidden):
                self.texts.append(name)
                self.write(attribute)


def _is_ufunc(value: Any) -> bool:
    return type(value).__module__ == "numpy" and type(value).__name__ == "ufunc"
