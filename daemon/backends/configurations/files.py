"""Configurations as files: YAML, JSON and URI are three spellings of the same thing.

A database has its named ones in `backends/`, a file each: `backends/gpu.yml` is `gpu`. Relative
paths in a file are meant from its folder.
"""

import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml
from pydantic import ValidationError

from daemon.backends.configurations import uri
from daemon.backends.configurations.base import BackendConfig
from daemon.backends.configurations.errors import ConfigurationError, in_words
from daemon.backends.configurations.registry import config_class

Format = Literal["yaml", "json", "uri"]
C = TypeVar("C", bound=BackendConfig)

FOLDER = "backends"
FORMATS: Mapping[str, Format] = {".yml": "yaml", ".yaml": "yaml", ".json": "json", ".uri": "uri"}
LARGEST = 2**20
"""Bytes that a configuration may have: more is something else."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def loads(
    text: str, format: Format | None = None, expected: type[BackendConfig] | None = None
) -> BackendConfig:
    """Return the configuration that `text` spells; without `format` it is told by its look.

    It has to be of the type `expected`, when given, and is, when it names none. Raises
    ConfigurationError.
    """
    spelling = format or _spelling(text)
    if spelling == "uri":
        config, values = uri.parse(text, lambda name: _class(name, expected))
        return validated(config, values)
    found = _from_json(text) if spelling == "json" else _from_yaml(text)
    if not isinstance(found, dict):
        raise ConfigurationError(["a configuration is a mapping: it begins with a line type: NAME"])
    name = found.pop("type", None) or (expected and expected.type_name())
    if name is None:
        raise ConfigurationError(["a configuration must include a 'type' field, as type: local"])
    return validated(_class(str(name), expected), found)


def dumps(config: BackendConfig, format: Format = "yaml") -> str:
    """Return `config` as a text that `loads` takes; secrets as references. ConfigurationError."""
    if format == "uri":
        return uri.dump(config) + "\n"
    values = config.model_dump(mode="json", exclude_defaults=True, exclude={"type"})
    return write({"type": config.type, **values}, format)


def write(values: Mapping[str, Any], format: Format) -> str:
    """Return plain `values` as YAML or JSON."""
    if format == "json":
        return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)


def validated(config: type[C], values: Mapping[str, Any]) -> C:
    """Make a configuration of `values`; raises ConfigurationError, which shows no secret."""
    try:
        return config.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigurationError(in_words(error, config)) from None


def read(path: Path, expected: type[BackendConfig] | None = None) -> BackendConfig:
    """Read a file, whose suffix tells its spelling; `expected` as in `loads`.

    Raises ConfigurationError and OSError.
    """
    if not path.is_file() and path.exists():
        raise ConfigurationError([f"{path} is no file"])
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        if found.st_mode & stat.S_IWOTH:
            words = f"everybody may write {path}, and so run anything as you: `chmod o-w {path}`"
            raise ConfigurationError([words])
        if found.st_size > LARGEST:
            raise ConfigurationError([f"{path} is too large for a configuration"])
        content = file.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError([f"{path} is no text in UTF-8"]) from None
    config = loads(text, FORMATS.get(path.suffix.lower()), expected)
    return config.located(path.absolute().parent)


def named(folder: Path) -> dict[str, Path]:
    """Return the files of a database's named configurations by name, in order."""
    try:
        entries = sorted((folder / FOLDER).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {
        path.stem: path for path in entries if path.suffix in FORMATS and _NAME.fullmatch(path.stem)
    }


def read_named(folder: Path, name: str) -> BackendConfig:
    """Read the configuration called `name` of the database in `folder`.

    Raises ConfigurationError, with the names there are, and OSError.
    """
    if _NAME.fullmatch(name) is None:
        raise ConfigurationError(
            [f"{name!r} is no name of a configuration: letters, digits, _ and -, at most 64"]
        )
    paths = [folder / FOLDER / f"{name}{suffix}" for suffix in FORMATS]
    there = [path for path in paths if path.exists()]
    if not there:
        known = ", ".join(named(folder)) or "none"
        words = f"there is no configuration {name!r} in {folder / FOLDER}; there are: {known}"
        raise ConfigurationError([words])
    if len(there) > 1:
        raise ConfigurationError([f"{name} is there twice: remove {there[0]} or {there[1]}"])
    [path] = there
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ConfigurationError([f"{path} leads out of {folder}: copy the file there instead"])
    return read(path)


def given(text: str, folder: Path, expected: type[BackendConfig] | None = None) -> BackendConfig:
    """Return what a person means by `text`: a name of the database in `folder`, a file, or a URI.

    `expected` as in `loads`, for files. Raises ConfigurationError and OSError.
    """
    path = Path(text)
    if text in named(folder):
        return read_named(folder, text)
    if not path.exists() and _NAME.fullmatch(text) is not None:
        known = ", ".join(named(folder)) or "none"
        words = (
            f"there is no file {text}, and no such name in {folder / FOLDER}; there are: {known}"
        )
        raise ConfigurationError([words])
    if not path.exists() and uri.looks_like(text):
        return loads(text, "uri", expected)
    return read(path, expected)


def save(path: Path, text: str) -> None:
    """Write a new file, which others may not read unless the umask lets the group.

    Raises FileExistsError when there is one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o660)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)


def _class(name: str, expected: type[BackendConfig] | None) -> type[BackendConfig]:
    """The class of the type `name`, which must be `expected` or a kind of it."""
    if expected is None:
        return config_class(name)
    if name != expected.type_name():
        found = config_class(name)
        if not issubclass(found, expected):
            raise ConfigurationError([f"type: is {name}, not {expected.type_name()}"])
        return found
    return expected


def _spelling(text: str) -> Format:
    if uri.looks_like(text):
        return "uri"
    return "json" if text.lstrip().startswith("{") else "yaml"


def _from_json(text: str) -> Any:
    def no_number(word: str) -> None:
        raise ValueError(f"{word} is no value")

    try:
        return json.loads(text, object_pairs_hook=_without_doubles, parse_constant=no_number)
    except ValueError as error:
        raise ConfigurationError([f"this is no JSON: {error}"]) from None


def _without_doubles(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    keys = [key for key, _ in pairs]
    doubles = sorted({str(key) for key in keys if keys.count(key) > 1})
    if doubles:
        raise ValueError(f"given twice: {', '.join(doubles)}")
    return dict(pairs)


class _Loader(yaml.SafeLoader):
    """YAML as people mean it: 1:30:00 and 2026-11-21 are texts, `on` and `no` too."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that is there twice, whose first value would get lost."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        _without_doubles([(key, None) for key in keys])
        return dict(super().construct_mapping(node, deep))


_Loader.yaml_implicit_resolvers = {}
for _tag, _form, _first in [
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?[0-9]+\.[0-9]*([eE][-+]?[0-9]+)?", list("-+0123456789")),
    ("merge", r"<<", ["<"]),
]:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_form})$"), _first)


def _from_yaml(text: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise ConfigurationError([f"this is no YAML: {where}{error.problem}"]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError([f"this is no YAML: {str(error).splitlines()[0]}"]) from None


SPELLINGS: tuple[Format, ...] = get_args(Format)
"""The ways to write a configuration."""
