"""Plain values from JSON and YAML: as people mean them, and nothing gets lost on the way."""

import json
import re
from collections.abc import Iterable
from typing import Any

import yaml

from daemon.backends.configurations.errors import ConfigurationError


def from_json(text: str) -> Any:
    """Return what JSON says; raises ConfigurationError, for a key that is there twice, too."""

    def no_number(word: str) -> None:
        raise ValueError(f"{word} is no value")

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _refuse_doubles(key for key, _ in pairs)
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=mapping, parse_constant=no_number)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError([f"this is no JSON: {error}"]) from None


def from_yaml(text: str) -> Any:
    """Return what YAML says; raises ConfigurationError, for a key that is there twice, too."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise ConfigurationError([f"this is no YAML: {where}{error.problem}"]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError([f"this is no YAML: {str(error).splitlines()[0]}"]) from None


def _refuse_doubles(keys: Iterable[str]) -> None:
    seen = set()
    for key in keys:
        if key in seen:
            raise ValueError(f"given twice: {key}")
        seen.add(key)


class _Loader(yaml.SafeLoader):
    """YAML in which 1:30:00 and 2026-11-21 are texts, and `on` and `no` too."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Make a mapping whose keys are words, each there once."""
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ValueError(f"line {key.start_mark.line + 1}: a key must be a word")
        _refuse_doubles(key.value for key, _ in node.value)
        return dict(super().construct_mapping(node, deep))


_Loader.yaml_implicit_resolvers = {}
for _tag, _form, _first in [
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?[0-9]+\.[0-9]*([eE][-+]?[0-9]+)?", list("-+0123456789")),
]:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_form})$"), _first)
