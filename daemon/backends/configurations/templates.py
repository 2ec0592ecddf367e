"""Configurations to start from, and the schemas by which other programs check them."""

import textwrap
from collections.abc import Mapping
from importlib.resources import files as package_files
from typing import Any

from pydantic import ValidationError

from daemon.backends.configurations import files
from daemon.backends.configurations.base import BackendConfig


def schema(config: type[BackendConfig], examples: bool) -> dict[str, Any]:
    """Return the JSON schema of a type's files, with its examples or without."""
    made = config.model_json_schema()
    made["properties"]["type"] = {"const": config.type_name(), "description": "the type"}
    made["required"] = ["type", *made.get("required", [])]
    if not examples:
        made.pop("examples", None)
    return made


def example(config: type[BackendConfig], format: files.Format) -> str:
    """Return a configuration as one would write it by hand.

    For another package's type that is the first example of its schema. Raises ConfigurationError
    when it has none and needs one.
    """
    place = package_files("daemon").joinpath("templates", "backends", f"{config.type_name()}.yml")
    if not place.is_file():
        return files.dumps(files.validated(config, _first_example(config)), format)
    text = place.read_text(encoding="utf-8")
    return text if format == "yaml" else files.dumps(files.loads(text, "yaml", config), format)


def template(config: type[BackendConfig], format: files.Format) -> str:
    """Return a configuration with every field: what is needed as an example, else its default.

    Raises ConfigurationError when a type that needs an example has none.
    """
    made = files.validated(config, _needed(config))
    if format == "uri":
        return files.dumps(made, format)
    values = {"type": made.type, **made.model_dump(mode="json", exclude={"type"})}
    return files.write(values, format) if format == "json" else _commented(config, values)


def _commented(config: type[BackendConfig], values: Mapping[str, Any]) -> str:
    """YAML with each field's meaning above it; fields without a value are comments too."""
    blocks = []
    for name, value in values.items():
        about = config.model_fields[name].description if name != "type" else config.__doc__
        words = textwrap.wrap((about or "").partition("\n")[0], 97)
        line = f"# {name}:\n" if value is None else files.write({name: value}, "yaml")
        blocks.append("".join([*(f"# {part}\n" for part in words), line]))
    return "\n".join(blocks)


def _first_example(config: type[BackendConfig]) -> dict[str, Any]:
    examples = config.model_json_schema().get("examples") or [{}]
    return dict(examples[0])


def _needed(config: type[BackendConfig]) -> dict[str, Any]:
    """The first example of a type, without what is not needed for a configuration to be right."""
    values = _first_example(config)
    for name in list(values):
        fewer = {key: value for key, value in values.items() if key != name}
        try:
            config.model_validate(fewer)
        except ValidationError:
            continue
        values = fewer
    return values
