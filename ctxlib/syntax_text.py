"""Writes syntax trees down without what changes no result: comments, layout, docstrings, order."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

Function = ast.FunctionDef | ast.AsyncFunctionDef
Import = ast.Import | ast.ImportFrom
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)
# Fields that the same source has in one version of Python and not in another, or for no reason.
_IGNORED = ("ctx", "type_comment", "kind", "type_ignores")
# What decorators of these names say is looked at by itself: a title changes no result.
OURS = frozenset({"Variable", "Group", "group"})


@dataclass(frozen=True)
class Imported:
    """One import statement: `module` (None: the package itself) `level` packages up, and names."""

    module: str | None
    level: int
    names: tuple[str, ...]


class Writer:
    """Writes nodes down as texts, and takes note of the names in them."""

    def __init__(self, marks: frozenset[str]) -> None:
        self.texts: list[str] = []
        self.outside: set[str] = set()
        self.imports: list[Imported] = []
        self._marks = marks
        self._bare: set[str] = set()
        self._attributes: dict[str, set[str]] = {}
        self._depth = 0

    def used(self) -> set[str]:
        """Give the names that were met, short of those outside of the outermost definition."""
        return self._bare | self._attributes.keys()

    def own_attributes(self, node: ast.AST) -> frozenset[str] | None:
        """Give the attributes that a function takes of its first argument, None if it does more."""
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            return None
        arguments = [*node.args.posonlyargs, *node.args.args]
        if not arguments or arguments[0].arg in self._bare:
            return None
        return frozenset(self._attributes.get(arguments[0].arg, ()))

    def write(self, node: ast.AST) -> None:
        """Write a node and all that is in it."""
        kind = type(node)
        special = _SPECIAL.get(kind)
        if special is not None:
            special(self, node)
            return
        self.texts.append(kind.__name__)
        self._write_fields(node, _fields(kind))
        self.texts.append(")")

    def _write_fields(self, node: ast.AST, names: Iterable[str]) -> None:
        for name in names:
            value = getattr(node, name, None)
            if isinstance(value, ast.AST):
                self.texts.append(name)
                self.write(value)
            elif not isinstance(value, list):
                if value is not None:
                    self.texts.append(f"{name}={value}")
            elif value:
                self.texts.append(name)
                if isinstance(value[0], ast.stmt):
                    self._write_body(value, as_set=isinstance(node, (ast.Module, ast.ClassDef)))
                else:
                    self._write_all(value)

    def _write_all(self, values: list[object]) -> None:
        for value in values:
            if isinstance(value, ast.AST):
                self.write(value)
            else:
                self.texts.append(repr(value))
        self.texts.append("]")

    def _write_body(self, body: list[ast.stmt], *, as_set: bool) -> None:
        """Write statements; `as_set`: definitions and imports mean the same in any order."""
        body = [statement for statement in body if not _says_nothing(statement)]
        names = [name for statement in body for name in bound_names(statement)] if as_set else []
        if as_set and len(names) == len(set(names)):  # else the last one of a name counts
            free = [s for s in body if isinstance(s, (*DEFINITIONS, *_IMPORTS))]
            body = [s for s in body if not isinstance(s, (*DEFINITIONS, *_IMPORTS))]
            for texts in sorted(map(self._apart, free)):
                self.texts += texts
        for statement in body:
            self.write(statement)
        self.texts.append("]")

    def _apart(self, node: ast.AST) -> list[str]:
        before, self.texts = self.texts, []
        self.write(node)
        written, self.texts = self.texts, before
        return written

    def _write_name(self, node: ast.Name) -> None:
        self._bare.add(node.id)
        self.texts.append(node.id)

    def _write_constant(self, node: ast.Constant) -> None:
        self.texts.append(f"{type(node.value).__name__} {node.value!r}")

    def _write_attribute(self, node: ast.Attribute) -> None:
        self.texts += ("Attribute", node.attr)
        if isinstance(node.value, ast.Name):
            self._attributes.setdefault(node.value.id, set()).add(node.attr)
            self.texts.append(node.value.id)
        else:
            self.write(node.value)

    def _write_import(self, node: Import) -> None:
        names = tuple(alias.name for alias in node.names)
        module, level = None, 0
        if isinstance(node, ast.ImportFrom):
            module, level = node.module, node.level
            self.imports.append(Imported(module, level, names))
        else:
            self.imports += [Imported(name, 0, ()) for name in names]
        self.texts += (type(node).__name__, str(module), str(level))
        self.texts += sorted(f"{alias.name} as {alias.asname}" for alias in node.names)

    def _write_definition(self, node: Function | ast.ClassDef) -> None:
        """Write a definition without our own decorators; what stands around its body comes first.

        The names around the body of the outermost one are `outside`.
        """
        self._depth += 1
        self.texts += (type(node).__name__, node.name)
        self._write_all([mark for mark in node.decorator_list if _called(mark) not in self._marks])
        around = [name for name in _fields(type(node)) if name not in _INNER]
        self._write_fields(node, around)
        if self._depth == 1:
            self.outside |= self.used()
            self._bare, self._attributes = set(), {}
        self._write_fields(node, ("body",))
        self._depth -= 1


_known_fields: dict[type, tuple[str, ...]] = {}
_INNER = ("name", "decorator_list", "body")
_SPECIAL: dict[type, Callable[[Writer, Any], None]] = {
    ast.Name: Writer._write_name,
    ast.Constant: Writer._write_constant,
    ast.Attribute: Writer._write_attribute,
    ast.Import: Writer._write_import,
    ast.ImportFrom: Writer._write_import,
    ast.FunctionDef: Writer._write_definition,
    ast.AsyncFunctionDef: Writer._write_definition,
    ast.ClassDef: Writer._write_definition,
}


def _fields(kind: type[ast.AST]) -> tuple[str, ...]:
    known = _known_fields.get(kind)
    if known is None:
        known = tuple(name for name in kind._fields if name not in _IGNORED)
        _known_fields[kind] = known
    return known


def _says_nothing(statement: ast.stmt) -> bool:
    """Whether a statement is a docstring, another lone constant, or `pass`."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Pass)


def _called(mark: ast.expr) -> str:
    """Give the last part of a decorator's name."""
    named = mark.func if isinstance(mark, ast.Call) else mark
    return named.attr if isinstance(named, ast.Attribute) else getattr(named, "id", "")


def bound_names(statement: ast.stmt) -> Iterator[str]:
    """Give the names that a statement binds, short of what is in the body of a definition."""
    if isinstance(statement, DEFINITIONS):
        yield statement.name
    elif isinstance(statement, _IMPORTS):
        for alias in statement.names:
            yield alias.asname or alias.name
    else:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                yield node.id
            elif isinstance(node, DEFINITIONS):
                yield node.name
            elif isinstance(node, _IMPORTS):
                for alias in node.names:
                    yield alias.asname or alias.name
