"""Find the parameters of a loaded context file: at its top level, and in the fields of groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ctxlib.errors import Problem
from ctxlib.group import class_attributes, is_group
from ctxlib.parameter import Field, Parameter


@dataclass
class Declared:
    """The parameters of a context by name, the fields that they are in, and what is wrong."""

    parameters: dict[str, Parameter] = field(default_factory=dict)
    fields: list[Field] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def reached_from(self, group: Any) -> tuple[str, ...]:
        """Name the parameters that fields of a group are, and of the groups in its fields."""
        names: dict[str, None] = {}
        waiting, seen = [group], set()
        while waiting:
            owner = waiting.pop()
            if id(owner) in seen:
                continue
            seen.add(id(owner))
            names |= {found.name: None for found in self.fields if found.owner is owner}
            waiting += [value for value in _attributes(owner).values() if is_group(value)]
        return tuple(names)


def declare(
    namespace: Mapping[str, object], groups: Iterable[tuple[Any, str]], path: str
) -> Declared:
    """Find the parameters in a namespace and in `groups`, pairs of an instance and its name.

    A field that holds a parameter of the top level is that one; others are named by their group,
    as variables are. Lines are given of what is written in the file `path`.
    """
    found = Declared()
    names: dict[int, str] = {}
    for name, value in namespace.items():
        if name.startswith("__") or not isinstance(value, Parameter):
            continue
        if id(value) in names:
            message = f"the parameter has two names, {names[id(value)]!r} and {name!r}"
            mend = f"use {names[id(value)]!r} alone"
            found.problems.append(_located(Problem(message, mend=mend), value, path))
            continue
        names[id(value)] = name
        _add(found, name, value, path)
    for group, attribute, value, own_name in _parameters_in(groups):
        name = names.get(id(value)) or own_name
        if name not in found.parameters:
            _add(found, name, value, path)
        found.fields.append(Field(group, attribute, name, value))
    return found


def _parameters_in(
    groups: Iterable[tuple[Any, str]],
) -> Iterator[tuple[Any, str, Parameter, str]]:
    """Go through the fields of groups, and of copies of groups inside them that have no name."""
    waiting = list(groups)
    named = {id(group) for group, _ in waiting}
    for group, group_name in waiting:
        for attribute, value in _attributes(group).items():
            if isinstance(value, Parameter):
                yield group, attribute, value, f"{group_name}.{attribute}"
            elif is_group(value) and id(value) not in named:
                named.add(id(value))
                waiting.append((value, f"{group_name}.{attribute}"))


def _add(found: Declared, name: str, parameter: Parameter, path: str) -> None:
    found.parameters[name] = parameter
    for problem in parameter.problems:
        message = f"the parameter {name!r}: {problem.message}"
        found.problems.append(_located(Problem(message, mend=problem.mend), parameter, path))


def _located(problem: Problem, parameter: Parameter, path: str) -> Problem:
    line = parameter.line if parameter.source == path else None
    return Problem(problem.message, line, mend=problem.mend)


def _attributes(instance: Any) -> dict[str, object]:
    return {**dict(class_attributes(type(instance))), **vars(instance)}
