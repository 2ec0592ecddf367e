"""Kinds of values that several configurations have: lines of text, paths, memory, environment."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

_MEMORY = re.compile(r"0*[1-9]\d*[kmgKMG]?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def one_line(text: str) -> str:
    """Return `text`; raises ValueError when it is empty or more than a line of plain text."""
    if not text.strip():
        raise ValueError("must not be empty")
    if _CONTROL.search(text):
        raise ValueError("must be one line without control characters")
    return encodable(text)


def encodable(text: str) -> str:
    """Return `text`; raises ValueError when a program could not be given it as an argument."""
    if "\0" in text:
        raise ValueError("must not contain a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("is no text that UTF-8 can write") from None
    return text


def _no_truth_value(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _absolute(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("must be an absolute path")
    return text.rstrip("/") or "/"


def _memory(text: str) -> str:
    if _MEMORY.fullmatch(text) is None:
        raise ValueError("must be a whole number with k, m or g, as 512m or 2g, or one of bytes")
    return text


def variable_name(name: str) -> str:
    """Return `name`; raises ValueError when a shell knows no variable of such a name."""
    if not name.strip():
        raise ValueError("Environment variable keys cannot be empty")
    if _VARIABLE.fullmatch(name) is None:
        raise ValueError(
            f"{name!r} is no name of a variable: letters, digits and _, no digit first"
        )
    return name


def _variables(values: dict[str, str]) -> dict[str, str]:
    for name, value in values.items():
        variable_name(name)
        encodable(value)
    return values


Strict = Annotated[str, Field(strict=True)]
Line = Annotated[Strict, AfterValidator(one_line)]
Script = Annotated[Annotated[Strict, Field(min_length=1)], AfterValidator(encodable)]
Number = Annotated[int, BeforeValidator(_no_truth_value)]
AbsolutePath = Annotated[Line, AfterValidator(_absolute)]
Memory = Annotated[
    Strict,
    AfterValidator(_memory),
    Field(json_schema_extra={"pattern": r"^0*[1-9]\d*[kmgKMG]?$"}),
]
Variables = Annotated[dict[Strict, Strict], AfterValidator(_variables)]
