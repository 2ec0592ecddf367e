"""The values of a context file's parameters: rows `param.<name>` beside the settings."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ctxlib.errors import nearest
from ctxlib.parameter import Scalar, is_name, is_scalar, parse_value

PREFIX = "param."


class ParameterError(ValueError):
    """A parameter cannot be called so, or cannot have this value; says what would be right."""


def is_key(key: str) -> bool:
    """Whether a setting's key is that of a parameter."""
    return key.strip().startswith(PREFIX)


def name_of(key: str) -> str:
    """The parameter that the key `param.<name>` is for; dashes are underscores.

    Raises ParameterError when no parameter can have this name.
    """
    name = key.strip().removeprefix(PREFIX).replace("-", "_")
    check({name: None})
    return name


def stored(name: str, text: str, number: bool = False) -> str:
    """What to store for the `text` that a user gave: the text, which is read when it is used.

    With `number` it must be a number. Raises ParameterError.
    """
    value = parse_value(text)
    if number and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise ParameterError(f"{PREFIX}{name}: {text!r} is no number")
    check({name: text})
    return text


def value_of(row: object) -> Scalar:
    """The value in a row; other programs may have stored a number itself."""
    return parse_value(row) if isinstance(row, str) else _scalar(row)


def _scalar(row: object) -> Scalar:
    if not isinstance(row, (int, float)) or not is_scalar(row):
        raise ParameterError(f"{row!r} is no value of a parameter")
    return row


def from_rows(rows: Mapping[str, object]) -> tuple[dict[str, Scalar], list[str]]:
    """The values of parameters among the settings' rows, and what is wrong with some of them."""
    values: dict[str, Scalar] = {}
    warnings = []
    for key, row in rows.items():
        if not is_key(key) or row is None:
            continue
        try:
            values[name_of(key)] = value_of(row)
        except ParameterError as error:
            warnings.append(f"{key}: {error}; it is not used")
    return values, warnings


def check(params: Mapping[str, Any]) -> None:
    """Raise ParameterError for a name or a value that no parameter can have."""
    for name, value in params.items():
        if not is_name(name):
            raise ParameterError(
                f"{name!r} is not the name of a parameter: use letters, digits and _"
            )
        if not is_scalar(value):
            raise ParameterError(f"{name} cannot be {value!r}: give a number or a text")
        if isinstance(value, str) and not _is_text(value):
            raise ParameterError(f"{name} cannot be {value!r}: it is not Unicode")


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def unknown(names: Iterable[str], known: Collection[str]) -> str | None:
    """Say which of `names` the context file has no parameter for, or None."""
    for name in names:
        if name not in known:
            listed = ", ".join(known)
            otherwise = f"there are {listed}" if known else "it has none"
            hint = nearest(name, known, otherwise=otherwise)
            return f"context.py has no parameter {name!r}: {hint}"
    return None


def listed(
    rows: Mapping[str, object], declared: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Each parameter that is set or declared as `settings` lists it: key, value, default, ..."""
    values, _ = from_rows(rows)
    described = {item["name"]: item for item in declared}
    found = []
    for name in dict.fromkeys((*described, *values)):
        item = described.get(name, {})
        default = item.get("default")
        meaning = item.get("description") or item.get("title") or "parameter of the context file"
        value = values.get(name, default)
        row = {"key": PREFIX + name, "value": value, "default": default, "meaning": meaning}
        found.append({**row, "set": name in values})
    return found
