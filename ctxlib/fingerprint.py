"""Fingerprints: what each variable's result depends on, in digests that can be compared later.

The fingerprint of a variable has one part for each thing: its own source, the settings of its
decorator that change the result, and the functions, classes, constants, modules and fields of its
group that it uses, at any distance. What other variables and parameters add, see `staleness`.
"""

from __future__ import annotations

import inspect
import json
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ctxlib.errors import describe
from ctxlib.group import class_attributes, is_group
from ctxlib.imports import is_own_module, is_project
from ctxlib.modules import ProjectFiles
from ctxlib.syntax import Reading, digest
from ctxlib.value_text import NotPlain, ValueWriter
from ctxlib.variable import Variable

if TYPE_CHECKING:
    from ctxlib.definitions import Context
    from ctxlib.graph import Node

_SETTINGS = ("summary", "units", "transient")


@dataclass(frozen=True)
class _Use:
    """Something that is used under a name: in the file `home`, whose globals are `namespace`."""

    name: str
    value: Any
    home: str
    namespace: Mapping[str, Any]
    owner: Any = None
    """The group that a function is a method of."""


@dataclass(frozen=True)
class _Part:
    """A part of fingerprints, if it has a key, and what it makes use of in turn."""

    key: str
    digest: str
    uses: tuple[_Use, ...] = ()


class Fingerprints:
    """Makes the fingerprints of the variables of one context."""

    def __init__(self, context: Context) -> None:
        self._context = str(context.path)
        self._files = ProjectFiles(context.path.parent)
        self._hidden = {(id(f.owner), f.attribute) for f in context.declared.fields}
        self._known: dict[tuple[object, ...], tuple[_Part, ...]] = {}
        self._kept: list[object] = []  # so that no id is given twice

    def parts(self, node: Node) -> dict[str, str]:
        """Give the parts that a variable has of its own, by what they are of.

        Settings are the values themselves, as JSON; all others are digests. There is a part
        `unknown`, with the reason, if not all of them can be found out.
        """
        variable = node.variable
        found = {"setting:data": node.data, "version": variable.version}
        found |= {f"setting:{name}": getattr(variable, name) for name in _SETTINGS}
        parts = {k: json.dumps(v) for k, v in found.items() if v is not None and v is not False}
        if node.problem is not None:
            parts["problem"] = ""
        if variable.func is None:
            return parts
        try:
            return parts | self._of_code(variable)
        except Exception as error:  # noqa: BLE001 - the user's objects can raise anything
            return parts | {"unknown": describe(error)}

    def _of_code(self, variable: Variable) -> dict[str, str]:
        """Give the parts of a variable's function and of all that it uses."""
        own, *others = self._closure(self._use_of(variable))
        used: dict[str, set[str]] = {}
        for part in others:
            if part.digest != own.digest:  # a function that calls itself
                used.setdefault(part.key, set()).add(part.digest)
        return {"source": own.digest} | {
            key: digest(each) if len(each) > 1 else each[0]
            for key, each in sorted((key, sorted(found)) for key, found in used.items())
        }

    def _use_of(self, variable: Variable) -> _Use:
        func: Any = inspect.unwrap(variable.func)  # type: ignore[arg-type]  # there is one
        # An object that can be called has its names where it is told how.
        code = func if _file_of(func) else inspect.getattr_static(type(func), "__call__")
        home, namespace = _file_of(code) or self._context, getattr(code, "__globals__", {})
        owner = variable.instance if is_group(variable.instance) else None
        return _Use(variable.name, func, home, namespace, owner)

    def _closure(self, use: _Use) -> Iterator[_Part]:
        """Give the parts of what is used, at any distance; that of `use` itself first."""
        waiting, seen = [use], set()
        while waiting:
            use = waiting.pop()
            key = _identity(use)
            if key in seen:
                continue
            seen.add(key)
            if key not in self._known:
                self._kept.append((use.value, use.owner))
                self._known[key] = tuple(self._look_at(use))
            for part in self._known[key]:
                yield part
                waiting += part.uses

    def _look_at(self, use: _Use) -> Iterator[_Part]:
        value = use.value
        if isinstance(value, Variable):
            value = value.func
        if inspect.isroutine(value) and not inspect.isbuiltin(value):
            value = inspect.unwrap(getattr(value, "__func__", value))
        if isinstance(value, types.ModuleType):
            yield from self._modules(self._files.of_module(value))
        elif isinstance(value, types.FunctionType):
            yield from self._function(use, value)
        elif isinstance(value, type):
            yield from self._class(use, value)
        else:
            yield from self._value(use, value)

    def _modules(self, paths: set[str]) -> Iterator[_Part]:
        for path in sorted(self._files.with_imports(paths)):
            whole = self._files.file(path).whole
            yield _Part(f"module:{self._files.name_of(path)}", whole.digest)

    def _function(self, use: _Use, function: types.FunctionType) -> Iterator[_Part]:
        code = function.__code__
        path = code.co_filename
        if path != use.home:
            yield from self._modules({path} if is_project(path) else set())
            return
        name = use.name if function.__name__ == "<lambda>" else function.__name__
        key, uses = f"function:{name}", list(_closed_over(function))
        reading = self._read(path, code) if is_project(path) else None
        if reading is None:
            texts = _code_texts(code) if is_project(path) else [function.__qualname__]
            yield _Part(key, digest(texts), tuple(uses))
            return
        names = reading.outside | (reading.names & _global_names(code))
        uses += _named(names, path, function.__globals__)
        uses += self._of_owner(use, reading, function)
        yield _Part(key, reading.digest, tuple(uses))
        yield from self._imports(reading, function.__globals__)

    def _read(self, path: str, code: types.CodeType) -> Reading | None:
        syntax = self._files.file(path).syntax
        try:
            return syntax.function(code.co_firstlineno, code.co_name) if syntax else None
        except RecursionError:  # an expression that is nested too deeply
            return None

    def _imports(self, reading: Reading, namespace: Mapping[str, Any]) -> Iterator[_Part]:
        package = str(namespace.get("__package__") or "")
        yield from self._modules(self._files.imported(reading.imports, package))

    def _class(self, use: _Use, cls: type) -> Iterator[_Part]:
        if not is_own_module(cls.__module__):
            return
        path, namespace = use.home, use.namespace
        if namespace.get("__name__") != cls.__module__:
            namespace = getattr(sys.modules.get(cls.__module__), "__dict__", {})
            path = str(namespace.get("__file__", ""))
        if path != use.home:
            yield from self._modules({path} if path else set())
            return
        syntax = self._files.file(path).syntax
        reading = syntax.classes(cls.__qualname__) if syntax else None
        if reading is None:
            reading = Reading(digest([cls.__qualname__]), frozenset(), frozenset(), None, ())
        uses = _named(reading.outside | reading.names, path, namespace)
        yield _Part(f"class:{cls.__qualname__}", reading.digest, tuple(uses))
        yield from self._imports(reading, namespace)

    def _value(self, use: _Use, value: Any) -> Iterator[_Part]:
        writer = ValueWriter(self._hidden)
        key = f"{'constant' if use.owner is None else 'field'}:{use.name}"
        try:
            writer.write(value)
        except Exception as error:  # noqa: BLE001 - the user's objects can raise anything
            if not isinstance(error, NotPlain):
                writer.texts.append(type(error).__name__)
            yield from self._statement(use, key, writer.texts[:1])
            return
        uses = (
            _Use(getattr(code, "__name__", use.name), code, use.home, use.namespace)
            for code in writer.code
        )
        yield _Part(key, digest(writer.texts), tuple(uses))

    def _statement(self, use: _Use, key: str, texts: list[str]) -> Iterator[_Part]:
        """Compare by what binds the name: what it is bound to does not say what is in it."""
        name, home, namespace, uses = use.name, use.home, use.namespace, []
        if use.owner is not None:
            # A field is given where its group is made, or has its default from the class.
            name, home = str(vars(use.owner).get("name")).partition(".")[0], self._context
            uses = [_Use(name, type(use.owner), use.home, namespace)]
        syntax = self._files.file(home).syntax
        reading = None if syntax is None else syntax.statements(name)
        if reading is None:
            yield _Part(key, digest(texts), tuple(uses))
            return
        if use.owner is None:
            uses += _named((reading.outside | reading.names) - {name}, home, namespace)
        yield _Part(key, digest([*texts, reading.digest]), tuple(uses))
        yield from self._imports(reading, namespace)

    def _of_owner(
        self, use: _Use, reading: Reading, function: types.FunctionType
    ) -> Iterator[_Use]:
        """Give what a method uses of its group: the attributes that it names, or all of them."""
        owner, home, namespace = use.owner, use.home, function.__globals__
        if owner is None:
            return
        if reading.own is None:
            yield _Use("self", owner, home, namespace, owner)
            return
        attributes = {**dict(class_attributes(type(owner))), **vars(owner)}
        for name in sorted(reading.own & attributes.keys()):
            value = attributes[name]
            if isinstance(value, property):
                value = value.fget
            elif isinstance(value, cached_property):
                value = value.func
            if (id(owner), name) not in self._hidden:
                yield _Use(name, value, home, namespace, owner)


def _identity(use: _Use) -> tuple[object, ...]:
    return (use.name, id(use.value), id(use.owner), use.home)


def _file_of(value: object) -> str:
    """Give the path of the file in which a function is written; "" for what is none."""
    code = getattr(value, "__code__", None)
    return code.co_filename if isinstance(code, types.CodeType) else ""


def _named(names: Iterable[str], home: str, namespace: Mapping[str, Any]) -> Iterator[_Use]:
    for name in sorted(names):
        if name in namespace:
            yield _Use(name, namespace[name], home, namespace)


def _closed_over(function: types.FunctionType) -> Iterator[_Use]:
    """Give what a function uses of the functions around it."""
    home = function.__code__.co_filename
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:
            continue  # it has no value yet
        if name != function.__name__:
            at = _file_of(value) or home  # what a library's decorator wraps is written elsewhere
            yield _Use(name, value, at, getattr(value, "__globals__", function.__globals__))


def _global_names(code: types.CodeType) -> set[str]:
    """Give the names that a function and those in it take from outside, and their attributes."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _global_names(constant)
    return names


def _code_texts(code: types.CodeType) -> Iterator[str]:
    """Describe a function whose source cannot be had by what it was compiled to."""
    yield code.co_code.hex()
    yield from (*code.co_names, *code.co_varnames)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _code_texts(constant)
        else:
            yield repr(constant)
