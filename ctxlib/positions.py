"""Where in a file the parts of a definition are written; looked up only for what is wrong."""

from __future__ import annotations

import ast
import linecache
import sys
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
DEFINITION = "def"
"""The part of a function that is its own line, below its decorators."""


def line_in_function(code: CodeType, part: str) -> int | None:
    """Give the line of a part of the function that `code` was made of; None if it is not found.

    A part is DEFINITION, the name of an argument, or "name=" for an argument of a decorator.
    """
    function = function_of(code)
    if function is None or not part:
        return None
    if part == DEFINITION:
        return function.lineno
    if part.endswith("="):
        return next(_decorator_lines(function, part[:-1]), None)
    lines = (a.lineno for a in _arguments(function.args) if a.arg == part)
    return next(lines, None)


def line_in_class(cls: type, attribute: str = "") -> int | None:
    """Give the line at which a class, or the last definition of an attribute in it, begins."""
    name = cls.__qualname__.rpartition(".")[2]
    found = None
    for node in _tree_of(file_of(cls)).classes:
        if node.name == name:
            lines = [_first_line(s) for s in node.body if attribute in _bound(s)]
            found = (lines[-1] if lines else None) if attribute else _first_line(node)
    return found


def file_of(cls: type) -> str:
    """Give the path of the file that a class is written in; empty if there is none."""
    return getattr(sys.modules.get(cls.__module__), "__file__", None) or ""


def function_of(code: CodeType) -> Function | None:
    """Give the syntax of the function that `code` was made of, or None."""
    return _tree_of(code.co_filename).functions.get((code.co_firstlineno, code.co_name))


def calls_in(path: str, name: str) -> list[ast.Call]:
    """Give the calls of `name`, or of an attribute of this name, in a file."""
    return _tree_of(path).calls.get(name, [])


class _Tree:
    def __init__(self, tree: ast.AST) -> None:
        self.functions: dict[tuple[int, str], Function] = {}
        self.classes: list[ast.ClassDef] = []
        self.calls: dict[str, list[ast.Call]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                self.classes.append(node)
            elif isinstance(node, ast.Call):
                name = str(getattr(node.func, "attr", getattr(node.func, "id", "")))
                self.calls.setdefault(name, []).append(node)
            elif isinstance(node, ast.Lambda):
                self.functions[node.lineno, "<lambda>"] = node
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                self.functions[_first_line(node), node.name] = node


def _tree_of(path: str) -> _Tree:
    linecache.checkcache(path)
    return _read("".join(linecache.getlines(path)))


@lru_cache(maxsize=4)
def _read(source: str) -> _Tree:
    try:
        return _Tree(ast.parse(source))
    except (SyntaxError, ValueError):  # edited since it was executed
        return _Tree(ast.Module([], []))


def _first_line(node: ast.stmt) -> int:
    marks: list[ast.expr] = getattr(node, "decorator_list", [])
    return min(node.lineno, *(mark.lineno for mark in marks)) if marks else node.lineno


def _decorator_lines(function: Function, name: str) -> Iterator[int]:
    for mark in getattr(function, "decorator_list", ()):
        if isinstance(mark, ast.Call):
            yield from (k.value.lineno for k in mark.keywords if k.arg == name)
            if name == "title" and mark.args:
                yield mark.args[0].lineno


def _arguments(arguments: ast.arguments) -> list[ast.arg]:
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]


def _bound(statement: ast.stmt) -> set[str]:
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return {statement.name}
    targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}
