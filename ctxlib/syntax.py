"""The syntax of one file, piece by piece, in a form that says whether two mean the same.

Comments, layout, docstrings and the order of definitions are not in it. Of each piece it is also
known which names it uses, so that what stands behind these can be compared too.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ctxlib.syntax_text import DEFINITIONS, OURS, Imported, Writer, bound_names


def digest(texts: Iterable[str]) -> str:
    """Give 16 hexadecimal digits that stand for these texts."""
    text = "\0".join(texts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=8).hexdigest()


@dataclass(frozen=True)
class Reading:
    """What a piece of source says.

    `names` are those that its body uses, `outside` those of its decorators, defaults and bases,
    which mean something where it stands. `own` are the attributes that it takes of its first
    argument, None if it does more with that.
    """

    digest: str
    names: frozenset[str]
    outside: frozenset[str]
    own: frozenset[str] | None
    imports: tuple[Imported, ...]


class Syntax:
    """The syntax of one file; decorators that are called one of `marks` are left out."""

    def __init__(self, tree: ast.Module, marks: Collection[str] = OURS) -> None:
        """Read what `ast.parse` made of the file."""
        self._tree = tree
        self._marks = frozenset(marks)
        self._by_line: dict[int, list[ast.AST]] = {}
        self._all_listed = False
        for statement in tree.body:
            self._list(statement)
        self._binding: dict[str, list[ast.stmt]] | None = None

    def function(self, line: int, name: str) -> Reading | None:
        """Read the function `name` that begins in a line, decorators included; None: not there."""
        found = [
            node
            for node in self._nodes(line)
            if (isinstance(node, ast.Lambda) if name == "<lambda>" else _is_function(node, name))
        ]
        return self._read(found) if found else None

    def classes(self, name: str) -> Reading | None:
        """Read the classes of this name at the top level; None when there is none."""
        found = [s for s in self._bindings(name) if isinstance(s, ast.ClassDef)]
        return self._read(found) if found else None

    def statements(self, name: str) -> Reading | None:
        """Read what binds a name at the top level; None when nothing there does."""
        found = self._bindings(name)
        return self._read(found) if found else None

    def whole(self) -> Reading:
        """Read all of the file."""
        return self._read([self._tree])

    def _read(self, nodes: Collection[ast.AST]) -> Reading:
        writer = Writer(self._marks)
        for node in nodes:
            writer.write(node)
        own = writer.own_attributes(next(iter(nodes))) if len(nodes) == 1 else None
        names, outside = frozenset(writer.used()), frozenset(writer.outside)
        return Reading(digest(writer.texts), names, outside, own, tuple(writer.imports))

    def _nodes(self, line: int) -> list[ast.AST]:
        if line not in self._by_line and not self._all_listed:
            # What is inside of functions is seldom asked for, and takes long to find.
            self._by_line, self._all_listed = {}, True
            for node in ast.walk(self._tree):
                self._list(node)
        return self._by_line.get(line, [])

    def _list(self, node: ast.AST) -> None:
        if isinstance(node, (*DEFINITIONS, ast.Lambda)):
            marks = getattr(node, "decorator_list", ())
            first = min((node.lineno, *(mark.lineno for mark in marks)))
            self._by_line.setdefault(first, []).append(node)
        if isinstance(node, ast.ClassDef) and not self._all_listed:
            for statement in node.body:
                self._list(statement)

    def _bindings(self, name: str) -> list[ast.stmt]:
        if self._binding is None:
            self._binding = {}
            for statement in self._tree.body:
                for bound in set(bound_names(statement)):
                    self._binding.setdefault(bound, []).append(statement)
        return self._binding.get(name, [])


def _is_function(node: ast.AST, name: str) -> bool:
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name
