"""What can be said of a context file's text before it is executed."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from types import CodeType

from ctxlib.errors import ContextError, Problem


def compile_source(source: bytes, path: str) -> tuple[CodeType, list[Problem]]:
    """Compile the text of a context file, and name the definitions that a later one replaces.

    Raises ContextError with the line where the syntax is wrong.
    """
    try:
        tree = ast.parse(source, path)
        return compile(tree, path, "exec", dont_inherit=True), list(_replaced(tree.body))
    except SyntaxError as error:
        text = (error.text or "").strip()
        message = f"{type(error).__name__}: {error.msg}" + (f", in: {text}" if text else "")
        raise ContextError([Problem(message, error.lineno, mend="correct the line")]) from error
    except (ValueError, RecursionError, MemoryError) as error:
        # A null byte, or an expression nested too deeply for the compiler: neither has a line.
        message = f"it cannot be read as Python: {type(error).__name__}: {error}"
        raise ContextError([Problem(message, mend="see whether the file is damaged")]) from error


def _replaced(body: Sequence[ast.stmt], prefix: str = "") -> Iterator[Problem]:
    """Find variables of which another one of the same name, right beside it, takes the place."""
    first: dict[str, ast.FunctionDef] = {}
    for statement in body:
        if isinstance(statement, ast.ClassDef):
            yield from _replaced(statement.body, f"{prefix}{statement.name}.")
        elif isinstance(statement, ast.FunctionDef) and _is_variable(statement):
            earlier = first.get(statement.name)
            if earlier is not None:
                yield Problem(
                    f"{prefix}{statement.name!s} is defined again in line {statement.lineno}, "
                    "and only that definition is used",
                    earlier.lineno,
                    mend="rename one of the two",
                )
            first[statement.name] = statement


def _is_variable(function: ast.FunctionDef) -> bool:
    for decorator in function.decorator_list:
        named = decorator.func if isinstance(decorator, ast.Call) else decorator
        name = named.attr if isinstance(named, ast.Attribute) else getattr(named, "id", "")
        if name == "Variable":
            return True
    return False
