"""Configurations as files: YAML, JSON and URI are three spellings of the same thing.

A database has its named ones in `backends/`, a file each: `backends/gpu.yml` is `gpu`. Relative
paths in a file are meant from its folder.
"""

import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml
from pydantic import ValidationError

from daemon.backends.configurations import uri
from daemon.backends.configurations.agent import AgentConfig
from daemon.backends.configurations.base import BackendConfig
from daemon.backends.configurations.errors import ConfigurationError, in_words
from daemon.backends.configurations.local import LocalConfig, SequentialConfig
from daemon.backends.configurations.plain import from_json, from_yaml
from daemon.backends.configurations.registry import config_class

Format = Literal["yaml", "json", "uri"]
C = TypeVar("C", bound=BackendConfig)

FOLDER = "backends"
FORMATS: Mapping[str, Format] = {".yml": "yaml", ".yaml": "yaml", ".json": "json", ".uri": "uri"}
BUILT_IN: Mapping[str, type[BackendConfig]] = {
    config.type_name(): config for config in (LocalConfig, SequentialConfig, AgentConfig)
}
"""Names that are always these types, without a file."""
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
        config, values = uri.parse(text, lambda name: _class(name, expected, uri.PRESETS))
        return validated(config, values)
    found = from_json(text) if spelling == "json" else from_yaml(text)
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
    values = config.model_dump(mode="json", exclude_unset=True, exclude={"type"})
    return write({"type": config.type, **values}, format)


def write(values: Mapping[str, Any], format: Format) -> str:
    """Return plain `values` as YAML or JSON."""
    if format == "json":
        return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    return yaml.safe_dump(dict(values), sort_keys=False, width=10_000)


def validated(config: type[C], values: Mapping[str, Any]) -> C:
    """Make a configuration of `values`; raises ConfigurationError, which shows no secret."""
    try:
        return config.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigurationError(in_words(error, config)) from None
    except Exception as error:  # noqa: BLE001 - a package's own code
        # Its text may hold a value, and that a secret.
        words = f"type {config.type_name()}: its package cannot check it: {type(error).__name__}"
        raise ConfigurationError([words]) from None


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
    return located(config, path.absolute().parent)


def located(config: C, folder: Path) -> C:
    """Return `config` with relative paths as seen from `folder`; raises ConfigurationError."""
    moved = config.located(folder)
    if moved == config:
        return config
    return validated(type(config), moved.model_dump(exclude_unset=True))


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
    if name in BUILT_IN:
        raise ConfigurationError([f"{name} is always the type {name}: give the file another name"])
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

    `expected` as in `loads`; a file that has a name has to name its type, too. Raises
    ConfigurationError and OSError.
    """
    path = Path(text)
    if text in named(folder):
        config = read_named(folder, text)
        _class(config.type, expected)
        return config
    if not path.exists() and _NAME.fullmatch(text) is not None:
        known = ", ".join(named(folder)) or "none"
        words = (
            f"there is no file {text}, and no such name in {folder / FOLDER}; there are: {known}"
        )
        raise ConfigurationError([words])
    if not path.exists() and uri.looks_like(text):
        return located(loads(text, "uri", expected), Path.cwd())
    return read(path, expected)


def save(path: Path, text: str) -> None:
    """Write a new file, which others may not read unless the umask lets the group.

    Raises FileExistsError when there is one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o660)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)


def _class(
    name: str, expected: type[BackendConfig] | None, also: Iterable[str] = ()
) -> type[BackendConfig]:
    """The class of the type `name`, which must be `expected` or a kind of it; `also` are named."""
    if expected is None:
        return config_class(name, also)
    if name != expected.type_name():
        found = config_class(name, also)
        if not issubclass(found, expected):
            raise ConfigurationError([f"type: is {name}, not {expected.type_name()}"])
        return found
    return expected


def _spelling(text: str) -> Format:
    if uri.looks_like(text):
        return "uri"
    return "json" if text.lstrip().startswith("{") else "yaml"


SPELLINGS: tuple[Format, ...] = get_args(Format)
"""The ways to write a configuration."""
