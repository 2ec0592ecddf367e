"""What is wrong with a configuration, in words that never hold a secret."""

import difflib
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from daemon.backends.configurations.secrets import Secret

LONGEST = 60
"""Characters of a refused value that a message shows."""


class ConfigurationError(ValueError):
    """A configuration cannot be used; `problems` has a line for each reason, with its mend."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(self.problems))


class NoManager(Exception):
    """Jobs cannot be run in this way in this installation; says why."""


def in_words(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Return what pydantic refused about values for `model`: a line for each, without secrets."""
    return [_line(dict(problem), model) for problem in error.errors(include_url=False)]


def nearest(word: str, known: Iterable[str]) -> str:
    """Say which of `known` was meant by `word`: " (did you mean 'x'?)", or "" when none is near."""
    found = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def _line(problem: Mapping[str, Any], model: type[BaseModel]) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    field = str(problem["loc"][0]) if problem["loc"] else ""
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        message += nearest(field, model.model_fields)
    elif problem["type"] == "string_type" and isinstance(problem["input"], (bool, int, float)):
        message += ": put it in quotes"
    elif problem["type"] not in ("missing", "value_error") and _may_be_shown(field, model):
        message += f", not {_shortened(repr(problem['input']))}"
    return f"{where}: {message}" if where else message


def _may_be_shown(field: str, model: type[BaseModel]) -> bool:
    """Whether what was refused is no secret: for a field that neither hides nor takes any."""
    about = model.model_fields.get(field)
    return about is not None and about.repr and not _takes_secrets(about.annotation)


def _takes_secrets(annotation: object) -> bool:
    return annotation is Secret or any(map(_takes_secrets, typing.get_args(annotation)))


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
