"""Configurations in one line: `type:key=value|key=value`, as `slurm-rest:host=max|partition=upex`.

A dash in a key is an underscore. A list or a mapping is written as JSON. `%XX` stands for a
character that cannot be written as it is: `%7C` for |, `%25` for %.
"""

import json
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from pydantic import BaseModel

from daemon.backends.configurations.base import BackendConfig
from daemon.backends.configurations.errors import ConfigurationError
from daemon.backends.configurations.plain import from_json

_ESCAPED = re.compile(r"[%|\x00-\x1f\x7f\x85\u2028\u2029]")
_STRUCTURES = (dict, list, tuple, set, frozenset, BaseModel)
_LINE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)?:(\S.*)?")


@dataclass(frozen=True)
class Preset:
    """A type with values for a certain site: `takes` are its keys by the fields they fill."""

    type: str
    takes: Mapping[str, str]
    fixed: Mapping[str, str]
    required: tuple[tuple[str, ...], ...] = ()
    """One key of each group has to be given, and the first of those that are counts."""


def _same(*keys: str) -> dict[str, str]:
    return {key: key.replace("-", "_") for key in keys}


PRESETS = {
    "petra3-slurm-remote": Preset(
        "slurm-ssh",
        {
            **_same("beamtime-id", "explicit-node", "use-additional-ssh-options"),
            "path": "beamtime_metadata",
        },
        {},
        required=(("beamtime-id", "path"),),
    ),
    "maxwell-rest": Preset(
        "slurm-rest",
        _same("partition", "reservation", "explicit-node", "token", "portal-token", "user"),
        {
            "host": "max-portal.desy.de",
            "path": "/sapi/slurm",
            "portal_url": "https://max-portal.desy.de/reservation/get_new_slurm_token",
        },
        required=(("partition",),),
    ),
}
"""Types of URIs that are another type with some values known: those of DESY."""


def looks_like(text: str) -> bool:
    """Whether `text` is a URI rather than YAML: a single line without a space after the type."""
    return _LINE.fullmatch(text.strip()) is not None


def split(text: str) -> tuple[str, dict[str, str]]:
    """Return the scheme of a URI and its values by key, as written. Raises ConfigurationError."""
    scheme, colon, rest = text.strip().partition(":")
    if not colon:
        raise ConfigurationError([f"a configuration in one line is type:key=value|…, not {scheme}"])
    if not scheme:
        raise ConfigurationError(["the type is missing before the first colon"])
    values: dict[str, str] = {}
    for part in rest.split("|") if rest else []:
        key, equals, value = part.partition("=")
        if not equals:
            raise ConfigurationError([f"a part between | is without =: {unquote(key)[:20]}"])
        if not key:
            raise ConfigurationError(["a key is missing before an = sign"])
        if key in values:
            raise ConfigurationError([f"{key}: is given twice"])
        values[key] = unquote(value, errors="surrogateescape")
    return scheme, values


def parse(
    text: str, find: Callable[[str], type[BackendConfig]]
) -> tuple[type[BackendConfig], dict[str, object]]:
    """Return the class of the configuration in `text` and its values, not checked any further.

    `find` gives the class of a type. Raises ConfigurationError.
    """
    scheme, given = split(text)
    preset = PRESETS.get(scheme)
    values = _by_field(given) if preset is None else _of_preset(scheme, preset, given)
    config = find(scheme if preset is None else preset.type)
    return config, {name: _value(config, name, text) for name, text in values.items()}


def dump(config: BackendConfig) -> str:
    """Return `config` as a URI: what nobody has set is left out. Raises ConfigurationError."""
    values = config.model_dump(mode="json", exclude_unset=True, exclude={"type"})
    fields = type(config).model_fields
    parts = [
        f"{name.replace('_', '-')}={_text(name, value)}"
        for name, value in values.items()
        if value is not None or fields[name].default is not None
    ]
    return f"{config.type}:{'|'.join(parts)}"


def _by_field(given: Mapping[str, str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for key, value in given.items():
        name = key.replace("-", "_")
        if name in values:
            raise ConfigurationError([f"{key}: is given twice"])
        values[name] = value
    return values


def _of_preset(scheme: str, preset: Preset, given: Mapping[str, str]) -> dict[str, str]:
    unknown = [key for key in given if key not in preset.takes]
    if unknown:
        known = ", ".join(preset.takes)
        raise ConfigurationError([f"{key}: {scheme} takes {known} only" for key in unknown])
    values = {field: given[key] for key, field in preset.takes.items() if key in given}
    for keys in preset.required:
        present = [key for key in keys if key in given]
        if not present:
            raise ConfigurationError([f"{scheme} needs {' or '.join(keys)}"])
        for key in present[1:]:
            del values[preset.takes[key]]
    return {**preset.fixed, **values}


def _value(config: type[BackendConfig], name: str, text: str) -> object:
    """What `text` says for a field: JSON when the field takes a list or a mapping."""
    field = config.model_fields.get(name)
    if field is None or not _is_structured(field.annotation):
        return text
    try:
        return from_json(text)
    except ConfigurationError as error:
        words = f"{name}: must be JSON, as {_example(field.annotation)}: {error}"
        raise ConfigurationError([words]) from None


def _is_structured(annotation: object) -> bool:
    """Whether values of a type, or of one of those it may be, are written with brackets."""
    origin = typing.get_origin(annotation) or annotation
    if isinstance(origin, type) and issubclass(origin, _STRUCTURES):
        return True
    return any(map(_is_structured, typing.get_args(annotation)))


def _example(annotation: object) -> str:
    origin = typing.get_origin(annotation) or annotation
    return '["one", "two"]' if origin is list else '{"KEY": "value"}'


def _text(name: str, value: object) -> str:
    if value is None:
        raise ConfigurationError([f"{name}: nothing is no value that a URI can give"])
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, (list, dict)):
        text = json.dumps(value, ensure_ascii=False)
    else:
        text = str(value)
    return _ESCAPED.sub(lambda m: "".join(f"%{byte:02X}" for byte in m[0].encode()), text)
