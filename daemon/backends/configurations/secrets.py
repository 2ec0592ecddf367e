"""Secrets of a configuration: it says where one is, and it is read when it is used.

`env:NAME` is an environment variable of the process that uses it, `file:/path` what a file holds.
The reference itself is no secret, and is all that a configuration ever shows.
"""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:/[^\0\n]+")
_FORMS = "env:NAME (an environment variable) or file:/path (a file that only you can read)"


class SecretError(Exception):
    """A secret cannot be read where it should be; names the place and the mend."""


class Secret:
    """Where a secret is. Two are equal when they name the same place."""

    def __init__(self, reference: str) -> None:
        """`reference`: env:NAME or file:/path. Raises ValueError, which does not repeat it."""
        if _REFERENCE.fullmatch(reference) is None:
            raise ValueError(f"a secret does not stand in a configuration: give {_FORMS}")
        self.reference = reference

    def read(self, environment: Mapping[str, str] = os.environ) -> str:
        """Return the secret itself, without white space around it. Raises SecretError."""
        kind, _, place = self.reference.partition(":")
        if kind == "env":
            if not environment.get(place):
                raise SecretError(f"the environment variable {place} is not set: export it first")
            return environment[place].strip()
        try:
            text = Path(place).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SecretError(f"{place} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise SecretError(f"{place} holds no text") from None
        if not text:
            raise SecretError(f"{place} is empty: write the secret into it")
        return text

    def check_host(self) -> list[str]:
        """What is wrong with the secret on this host: missing, or readable by everybody."""
        try:
            self.read()
        except SecretError as error:
            return [str(error)]
        kind, _, place = self.reference.partition(":")
        if kind == "file" and stat.S_IMODE(Path(place).stat().st_mode) & 0o004:
            return [f"everybody may read {place}: `chmod o-rwx {place}`"]
        return []

    def __str__(self) -> str:
        return self.reference

    def __repr__(self) -> str:
        return f"Secret({self.reference!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.reference == self.reference

    def __hash__(self) -> int:
        return hash(self.reference)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """How pydantic takes one, by its reference or as it is, and dumps it, as its reference."""
        from_text = core_schema.no_info_after_validator_function(
            cls, core_schema.str_schema(strict=True)
        )
        return core_schema.union_schema(
            [core_schema.is_instance_schema(cls), from_text],
            mode="left_to_right",
            custom_error_type="secret",
            custom_error_message=f"a secret does not stand in a configuration: give {_FORMS}",
            serialization=core_schema.plain_serializer_function_ser_schema(
                str, return_schema=core_schema.str_schema()
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The form of a reference, for whoever checks files without us."""
        return {
            "type": "string",
            "pattern": r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:/.+)$",
            "description": f"{_FORMS}; never the secret itself",
        }
