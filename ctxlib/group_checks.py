"""What is wrong with groups: their classes, and the fields that instances are made with.

It is kept where it is found, and costs the variables of that group only.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Iterator, Mapping

from ctxlib.errors import Problem, nearest
from ctxlib.positions import file_of, line_in_class

RESERVED = ("title", "tags", "sep")
# Kept on classes and on instances, under names that no field has.
PROPERTIES = "__group_properties__"
PROBLEMS = "__group_problems__"


def class_problems(cls: type) -> list[Problem]:
    """Give what is wrong with a group's class and its decorator, bases included, with its lines."""
    found = [problem for base in cls.__mro__ for problem in vars(base).get(PROBLEMS, ())]
    return [*found, *getattr(cls, PROPERTIES).problems]


def instance_problems(instance: object) -> list[Problem]:
    """Give what is wrong with the fields or the name that an instance was made with."""
    return list(vars(instance).get(PROBLEMS, ()))


def is_wrong(cls: type) -> bool:
    """Whether something is wrong with a class or its bases, so that no instance is of use."""
    return any(vars(base).get(PROBLEMS) for base in cls.__mro__)


def unclaimed(
    values: Iterable[object], groups: Iterable[object], owners: Collection[object]
) -> Iterator[Problem]:
    """Give the problems that are no variable's: of classes in `values`, and of `groups`.

    `owners` are the groups that have variables.
    """
    having = {id(owner) for owner in owners}
    classes = [v for v in values if isinstance(v, type) and hasattr(v, PROPERTIES)]
    for cls in classes:
        if not any(type(owner) is cls for owner in owners):
            yield from class_problems(cls)
    for group in groups:
        if id(group) not in having:
            yield from instance_problems(group)


def wrong_attributes(cls: type) -> list[Problem]:
    """Find what the class of a group cannot have."""
    problems = []
    if "__init__" in vars(cls) and "__dataclass_params__" not in vars(cls):
        mend = "declare fields, and compute what follows from them in __post_init__"
        message = f"group {cls.__name__} cannot have an __init__ of its own"
        problems.append(problem_of(cls, message, mend, "__init__"))
    # A base that is a group has said it already.
    bases = [b for b in cls.__mro__ if b is cls or "__group_prepared__" not in vars(b)]
    own = {n for b in bases for n in (*vars(b), *vars(b).get("__annotations__", ()))}
    for name in RESERVED:
        if name in own:
            message = f"group {cls.__name__} cannot have an attribute {name!r} of its own"
            mend = f"choose another name; {name} is the group's, as in @Group({name}=...)"
            problems.append(problem_of(cls, message, mend, name))
    return problems


def problem_of(cls: type, message: str, mend: str = "", attribute: str = "") -> Problem:
    """Make a problem that is at an attribute of a class, or where the class begins."""
    line = line_in_class(cls, attribute) or line_in_class(cls)
    return Problem(message, line, mend=mend, source=file_of(cls))


def is_name(name: object) -> bool:
    """Whether an instance can have this name; None leaves it to where it is assigned."""
    if not isinstance(name, str):
        return name is None
    return all(part.isidentifier() for part in name.split("."))


def wrong_fields(
    cls: str, given: Mapping[str, object], known: Mapping[str, inspect.Parameter]
) -> dict[str, str]:
    """Say what is wrong with the fields given to an instance, and the mend of each."""
    wrong = {}
    for name in given:
        if name not in known:
            mend = nearest(name, [*known, *RESERVED], otherwise="there are " + ", ".join(known))
            wrong[f"{cls} has no field {name!r}"] = mend if known else "declare it in the class"
    for name, parameter in known.items():
        if name not in given and parameter.default is inspect.Parameter.empty:
            wrong[f"{cls} needs its field {name!r}"] = f"give {name}=..., or a default in the class"
    return wrong
