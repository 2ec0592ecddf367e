"""What can be said of a context file's text before it is executed."""

from __future__ import annotations

import ast
import io
import linecache
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType

from ctxlib.errors import ContextError, Problem

# The syntax of the file that was compiled last, by its path: its fingerprints are made of it.
_last: dict[str, ast.Module] = {}


def compile_source(source: bytes, path: str) -> tuple[CodeType, list[Problem]]:
    """Compile the text of a context file, and name the definitions that a later one replaces.

    Raises ContextError with the line where the syntax is wrong.
    """
    _check_encoding(source)
    try:
        tree = ast.parse(source, path)
        code = compile(tree, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        text = (error.text or "").strip()
        message = f"{type(error).__name__}: {error.msg}" + (f", in: {text}" if text else "")
        raise ContextError([Problem(message, error.lineno, mend="correct the line")]) from error
    except (ValueError, RecursionError, MemoryError) as error:
        # A null byte, or an expression nested too deeply for the compiler: neither has a line.
        message = f"it cannot be read as Python: {type(error).__name__}: {error}"
        raise ContextError([Problem(message, mend="see whether the file is damaged")]) from error
    _last.clear()
    _last[path] = tree
    return code, list(_replaced(tree.body))


def syntax_tree(path: str) -> ast.Module | None:
    """Give the syntax of a file, as it was executed if that can be had; None for what is no file.

    What was compiled here is forgotten with that.
    """
    tree = _last.pop(path, None)
    if tree is not None:
        return tree
    try:
        if path.startswith("<"):  # a text that is known by this name, or a notebook's cell
            return ast.parse("".join(linecache.getlines(path)))
        return ast.parse(Path(path).read_bytes())
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _check_encoding(source: bytes) -> None:
    """Refuse what Python refuses in a file, where its compiler overlooks it in comments."""
    try:
        source.decode()
    except UnicodeDecodeError as error:
        try:
            encoding = tokenize.detect_encoding(io.BytesIO(source).readline)[0]
        except SyntaxError:  # nothing is declared, or what there is not
            encoding = "utf-8"
        if not encoding.startswith("utf-8"):
            return
        byte, line = source[error.start], source.count(b"\n", 0, error.start) + 1
        message = f"SyntaxError: the byte 0x{byte:02x} is not UTF-8"
        raise ContextError([Problem(message, line, mend="save the file as UTF-8")]) from error


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
