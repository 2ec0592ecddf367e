"""What a check of a context file says beyond the problems that cost variables.

It is looked for in the text of the file, and only when a file is checked: a job does not wait.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator

from ctxlib.cell import parse_colour
from ctxlib.definitions import Context, wrong_summary
from ctxlib.errors import Problem
from ctxlib.positions import Function, calls_in, function_of
from ctxlib.variable import Variable


def advice(context: Context) -> list[Problem]:
    """Name the arguments that functions do not use, and what no Cell can have."""
    path = str(context.path)
    found = [p for v in context.variables.values() if v.source == path for p in _unused(v)]
    found += (p for call in calls_in(path, "Cell") for p in _wrong_cell(call))
    return list(dict.fromkeys(found))  # instances of a group share its functions


def _unused(variable: Variable) -> Iterator[Problem]:
    function = inspect.unwrap(variable.func) if variable.func else None
    code = getattr(function, "__code__", None)
    syntax = None if code is None else function_of(code)
    if syntax is None or _is_stub(syntax):
        return
    body = syntax.body if isinstance(syntax.body, list) else [syntax.body]
    names = {n.id for part in body for n in ast.walk(part) if isinstance(n, ast.Name)}
    if "locals" in names:
        return
    for argument in variable.arguments:
        name = argument.name
        if name not in names and not name.startswith("_"):
            where = getattr(function, "__qualname__", variable.name)
            mend = f"take it out, or call it '_{name}' if it is only to be waited for"
            message = f"{where}: argument {name!r} is not used"
            yield Problem(message, variable.line_of(name), mend=mend)


def _is_stub(function: Function) -> bool:
    """Whether the body is a docstring, `...`, `pass` or `raise` alone: it is not written yet."""
    if not isinstance(function.body, list):
        return False
    idle = (ast.Pass, ast.Raise)
    return all(
        isinstance(s, idle) or (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))
        for s in function.body
    )


def _wrong_cell(call: ast.Call) -> Iterator[Problem]:
    for keyword in call.keywords:
        for value, line in _literals(keyword.value):
            if keyword.arg == "background" and value is not None:
                try:
                    parse_colour(value)
                except ValueError as error:
                    message, _, mend = str(error).partition(": ")
                    yield Problem(f"{message} is not possible", line, mend=mend)
            elif keyword.arg == "summary" and isinstance(value, str):
                problem = wrong_summary(value)
                if problem is not None:
                    yield Problem(f"Cell({problem.message})", line, mend=problem.mend)


def _literals(node: ast.expr) -> Iterator[tuple[object, int]]:
    """Give the values that are written in an expression as they are, with their lines."""
    if isinstance(node, ast.IfExp):
        yield from _literals(node.body)
        yield from _literals(node.orelse)
        return
    try:
        yield ast.literal_eval(node), node.lineno
    except (ValueError, TypeError):
        return  # known when it runs: Cell checks it then
