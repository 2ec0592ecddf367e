"""Parameter: a number or text that a context file uses and that can be set from outside."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ctxlib.errors import Problem

Scalar = bool | int | float | str | None

NO_DEFAULT: Final = object()
"""The default of a parameter that has none; None is a value like others."""


class Parameter:
    """What a context file declares at its top level, and variables take as `"param#name"`.

    `threshold = Parameter(3.5, description="...")`. The default is a number, a text, True, False or
    None; without one, a value has to come from the settings (`db-config param.threshold 5`) or from
    the command (`reprocess --param threshold=5`), which win over the default. As a field of a group
    it is replaced by its value before the group's variables are called.

    Arguments that cannot be right raise nothing: they are kept in `problems`.
    """

    def __init__(self, default: object = NO_DEFAULT, *, title: str = "", description: str = ""):
        self.problems: list[Problem] = []
        caller = sys._getframe(1)
        self.line, self.source = caller.f_lineno, caller.f_code.co_filename
        self.default = default
        if default is not NO_DEFAULT and not is_scalar(default):
            mend = "give a finite number, a text, True, False or None"
            self.problems.append(Problem(f"default={default!r} is not possible", mend=mend))
            self.default = NO_DEFAULT
        self.title = self._text("title", title)
        self.description = self._text("description", description)

    def describe(self, name: str) -> dict[str, object]:
        """Give what the daemon needs to know of it, as JSON; `default` only if it has one."""
        described: dict[str, object] = {
            "name": name,
            "title": self.title,
            "description": self.description,
        }
        return described if self.default is NO_DEFAULT else {**described, "default": self.default}

    def __repr__(self) -> str:
        return "Parameter()" if self.default is NO_DEFAULT else f"Parameter({self.default!r})"

    def _text(self, name: str, value: object) -> str:
        if isinstance(value, str):
            return value
        self.problems.append(Problem(f"{name}={value!r} is not possible", mend="give a text"))
        return ""


@dataclass(frozen=True)
class Field:
    """An attribute of a group that is the parameter `name`, which is called so everywhere."""

    owner: Any
    attribute: str
    name: str
    parameter: Parameter


def is_name(text: str) -> bool:
    """Whether a parameter can have this name: identifiers, joined by dots in groups."""
    return all(part.isidentifier() for part in text.split("."))


def is_scalar(value: object) -> bool:
    """Whether a parameter can have this value: what JSON has, but for lists and objects."""
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, (bool, int, str))


def parse_value(text: str) -> Scalar:
    """Read a value as a user types it: a JSON number, true, false, null or "text"; else a text."""
    stripped = text.strip()
    if stripped[:1] in ("[", "{"):
        return text
    try:
        value: Scalar = json.loads(stripped)
    except ValueError:  # also for a number with more digits than Python wants to read
        return text
    # JSON has neither NaN nor Infinity, but Python's reader takes them, and 1e999.
    return value if is_scalar(value) else text


def values(declared: Mapping[str, Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """Give the values that hold: what is `given`, and the defaults of what is `declared`."""
    defaults = {n: p.default for n, p in declared.items() if p.default is not NO_DEFAULT}
    return {**defaults, **given}
