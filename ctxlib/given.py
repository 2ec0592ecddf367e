"""The arguments of variables that come from outside of the graph: meta#, param#, mymdc#."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ctxlib.arguments import Argument
from ctxlib.errors import Skip, VariableError, nearest
from ctxlib.graph import Node
from ctxlib.metadata import MetadataError


class Metadata(Protocol):
    """What catalogues know of the run."""

    def value(self, catalogue: str, field: str) -> object:
        """Give a value, None if there is none; raises MetadataError if that cannot be found out."""


@dataclass(frozen=True)
class Given:
    """What a job is given besides its variables: the run, and what is known about it."""

    run: object
    meta: Mapping[str, object]
    params: Mapping[str, object]
    metadata: Metadata | None

    def check_fields(self, node: Node) -> None:
        """Raise VariableError if a parameter in a field of the variable's group has no value."""
        for name in node.variable.fields:
            if name not in self.params:
                raise VariableError(f"the parameter {name!r} of its group {self._no_value(name)}")

    def value(self, argument: Argument) -> object:
        """Give the value of an argument; its default where there is none, or an exception.

        VariableError for a parameter without a value, MetadataError for a catalogue that gives no
        answer, Skip for one that has no value for this run.
        """
        if argument.kind == "meta":
            try:
                return self.meta[argument.target]
            except VariableError:
                if argument.required:
                    raise
                return argument.default
        if argument.kind == "param":
            return self._parameter(argument)
        return self._from_catalogue(argument)

    def _parameter(self, argument: Argument) -> object:
        value = self.params.get(argument.target, argument.default)
        if argument.target not in self.params and argument.required:
            what = f"argument {argument.name!r}: the parameter {argument.target!r}"
            raise VariableError(f"{what} {self._no_value(argument.target)}")
        return value

    def _no_value(self, name: str) -> str:
        declare = f"give its Parameter a default, or set it with db-config param.{name} VALUE"
        return f"has no value ({nearest(name, self.params, otherwise=declare)})"

    def _from_catalogue(self, argument: Argument) -> object:
        what = f"{argument.kind}#{argument.target}"
        try:
            if self.metadata is None:
                raise MetadataError(f"{what} is only known for a run of a proposal")
            value = self.metadata.value(argument.kind, argument.target)
        except MetadataError:
            if argument.required:
                raise
            return argument.default
        if value is not None:
            return value
        if argument.required:
            raise Skip(f"needs {what}, which has no value for this run")
        return argument.default
