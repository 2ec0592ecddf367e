"""What is added to a pipeline one by one: variables and groups, and what they are called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ctxlib.column_names import is_name
from ctxlib.definitions import Context
from ctxlib.group import declares_name, given_name, is_group
from ctxlib.variable import Variable

Item = tuple[str | None, object]
"""The name that was given with it, and a variable or a group."""


def unpacked(item: object) -> Iterator[Item]:
    """Go through variables, groups, and lists of them; TypeError for anything else."""
    if isinstance(item, Variable) or is_group(item):
        yield None, item
    elif isinstance(item, Mapping):
        for name, value in item.items():
            if not isinstance(name, str) or not (isinstance(value, Variable) or is_group(value)):
                raise TypeError(f"add takes groups and variables by their names, not {value!r}")
            yield name, value
    elif isinstance(item, list | tuple):
        for inner in item:
            yield from unpacked(inner)
    else:
        raise TypeError(f"add takes variables, groups, and lists of them, not {item!r}")


def context_of(pairs: Sequence[Item], names: Mapping[int, str], path: Path) -> Context:
    """Make a context of what was added; `names` are those of the file that it is in, by identity.

    Raises ValueError for a group without a name, and for two that have the same.
    """
    top: dict[str, object] = {}
    named: dict[str, Variable] = {}
    for pair in pairs:
        name, item = name_of(pair, names), pair[1]
        if name is None:
            raise ValueError(_nameless(item))
        if isinstance(item, Variable) and _is_of_context(item):
            named[name] = item
        elif top.setdefault(name, item) is not item:
            raise ValueError(f"{name!r} is added twice, and the two are not the same; rename one")
    context = Context.of(top, path)
    return context.united_with(replace(context, variables=named, problems=[]), "error")


def name_of(pair: Item, names: Mapping[int, str]) -> str | None:
    """What it is called: as was given with it, as in the file, or by itself; None for nothing."""
    given, item = pair
    if given is not None:
        return given
    if isinstance(item, Variable):
        known = item.name if _is_of_context(item) else names.get(id(item), item.name)
        # A lambda's own is none.
        return known if is_name(known) else None
    own = None if declares_name(type(item)) else vars(item).get("name")
    return given_name(item) or names.get(id(item)) or own


def _nameless(item: object) -> str:
    if isinstance(item, Variable):
        return f"a variable of a function called {item.name!r} has no name: add {{name: variable}}"
    return (
        f"a group {type(item).__name__} has no name: make it with name=..., or add {{name: group}}"
    )


def _is_of_context(variable: Variable) -> bool:
    """Whether it was named by a context, as those of `vars`, and has its full name already."""
    if variable.instance is None:
        return variable.original is not variable
    return "." in variable.name
