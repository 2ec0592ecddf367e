"""Group: a class of variables that can be instantiated with different settings."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, overload

from ctxlib.errors import Problem, nearest
from ctxlib.group_checks import (
    PROBLEMS,
    PROPERTIES,
    RESERVED,
    is_name,
    is_wrong,
    problem_of,
    wrong_attributes,
    wrong_fields,
)
from ctxlib.variable import Variable

C = TypeVar("C", bound=type)
# Kept on classes and on instances, under names that no field has.
_ORIGIN = "__group_origin__"
_GIVEN = "__group_given_name__"
_MADE = "__group_made_at__"


@dataclasses.dataclass(frozen=True)
class Properties:
    """What the decorator says for all instances of a class that do not say it themselves."""

    title: object = None
    tags: object = None
    sep: object = "/"
    problems: tuple[Problem, ...] = ()


@overload
def Group(cls: C, /) -> C: ...


@overload
def Group(
    *, title: str | None = None, tags: str | Iterable[str] | None = None, sep: str = "/"
) -> Callable[[C], C]: ...


def Group(
    cls: Any = None, /, *, title: Any = None, tags: Any = None, sep: Any = "/", **unknown: Any
) -> Any:
    """Make a group of a class, with or without parentheses.

    The annotated attributes of the class become fields, given to its instances by name, as in a
    dataclass. An instance takes `title`, `tags` and `sep` too, in this order or by name; what it
    does not say is the decorator's. `title` heads the titles of all its variables, joined by `sep`;
    `tags` go to all of them. An instance's `name` is the name that it is assigned to, or what is
    given as `name`, unless the class has a `name` of its own.

    A subclass that is not decorated is a group with the same properties; decorating it resets them.

    What is wrong with a class, its decorator or an instance raises nothing: it costs the variables
    of that group only. Raises TypeError for what is no class.
    """
    messages = {}
    if isinstance(cls, str):
        messages[f"@Group takes its title by name, not {cls!r} alone"] = f"write title={cls!r}"
        cls = None
    for name in unknown:
        mend = nearest(name, RESERVED, otherwise="there are " + ", ".join(RESERVED))
        messages[f"@Group has no argument {name!r}"] = mend

    def decorate(target: Any) -> Any:
        if not isinstance(target, type):
            raise TypeError(f"@Group is for classes, not for {target!r}: write @Group(title=...)")
        _prepare(target)
        problems = tuple(problem_of(target, text, mend) for text, mend in messages.items())
        setattr(target, PROPERTIES, Properties(title, tags, sep, problems))
        return target

    return decorate if cls is None else decorate(cls)


group = Group


def is_group(value: object) -> bool:
    """Whether the value is an instance of a group."""
    return hasattr(type(value), PROPERTIES)


def properties(instance: object) -> Properties:
    """Give what the class of a group says about its instances."""
    found = getattr(type(instance), PROPERTIES)
    assert isinstance(found, Properties)
    return found


def declares_name(cls: type) -> bool:
    """Whether `name` means something else in this class than the name of the instance."""
    fields = getattr(cls, "__dataclass_fields__", {})
    return "name" in fields or hasattr(cls, "name")


def made_at(instance: object) -> tuple[str | None, int | None]:
    """Give the file and the line that made an instance, as far as they are known."""
    found: tuple[str | None, int | None] = vars(instance).get(_MADE, (None, None))
    return found


def given_name(instance: object) -> str | None:
    """Give the name that was given to an instance when it was made, if any."""
    name: str | None = vars(instance).get(_GIVEN)
    return name


def class_attributes(cls: type) -> Iterator[tuple[str, object]]:
    """Go through the attributes of a class as written, its bases first, without binding them."""
    names = dict.fromkeys(name for base in reversed(cls.__mro__) for name in vars(base))
    for name in names:
        if not name.startswith("__"):
            owner = next(base for base in cls.__mro__ if name in vars(base))
            yield name, vars(owner)[name]


def members(instance: Any) -> dict[str, object]:
    """Give the variables, groups and Nones of a group by their attributes' names."""
    found: dict[str, object] = {}
    for name, value in class_attributes(type(instance)):
        found[name] = value.__get__(instance) if isinstance(value, Variable) else value
    found |= {name: value for name, value in vars(instance).items() if not name.startswith("__")}
    if not declares_name(type(instance)):
        found.pop("name", None)
    return {
        name: value
        for name, value in found.items()
        if name not in RESERVED
        and (value is None or isinstance(value, Variable) or is_group(value))
    }


def origin(instance: Any) -> object:
    """Give the instance in a class body that this one was copied from, else itself."""
    return vars(instance).get(_ORIGIN, instance)


def _prepare(cls: Any) -> None:
    """Make a dataclass of the class whose instances take the group's properties too."""
    if "__group_prepared__" in vars(cls):
        return
    problems = wrong_attributes(cls)
    try:
        dataclasses.dataclass(kw_only=True, eq=False)(cls)
    except (TypeError, ValueError) as error:  # such as a list as the default of a field
        problems.append(problem_of(cls, f"group {cls.__name__} cannot have its fields: {error}"))
    setattr(cls, PROBLEMS, tuple(problems))
    cls.__group_prepared__ = True
    _extend_init(cls)
    _prepare_subclasses(cls)


def _extend_init(cls: Any) -> None:
    useless = is_wrong(cls)
    set_fields = cls.__init__
    parameters = dict(inspect.signature(set_fields).parameters)
    parameters.pop("self", None)
    owns_name = declares_name(cls)

    def __init__(
        self: Any, title: Any = None, tags: Any = None, sep: Any = None, *more: Any, **fields: Any
    ) -> None:
        caller = sys._getframe(1)
        vars(self)[_MADE] = caller.f_code.co_filename, caller.f_lineno
        if useless:  # an __init__ of its own means something else by its arguments
            title, tags, sep = title if isinstance(title, str) else None, None, None
        vars(self).update(title=title, tags=tags, sep=sep)
        wrong = {}
        if more and not useless:
            wrong[f"{cls.__name__} takes title, tags and sep by position, not {more[0]!r}"] = (
                "give it by its name"
            )
        if not owns_name:
            name = fields.pop("name", None)
            if not is_name(name):
                wrong[f"the name {name!r} of a group is not possible"] = "use letters, digits and _"
                name = None
            vars(self)["name"] = vars(self)[_GIVEN] = name
        for name, value in class_attributes(cls):
            # What stands in a class body is there once; each owner gets its own.
            if is_group(value) and name not in getattr(cls, "__dataclass_fields__", ()):
                vars(self)[name] = _copied(value)
            elif is_group(value):
                fields.setdefault(name, _copied(value))
        if useless:
            vars(self).update(fields)  # none of its variables is ever called
            return
        wrong |= wrong_fields(cls.__name__, fields, parameters)
        if wrong:
            made = vars(self)[_MADE]
            vars(self)[PROBLEMS] = [
                Problem(message, made[1], mend=mend, source=made[0])
                for message, mend in wrong.items()
            ]
            vars(self).update(fields)
        else:
            set_fields(self, **fields)

    cls.__init__ = __init__


def _prepare_subclasses(cls: Any) -> None:
    own = vars(cls).get("__init_subclass__")

    def __init_subclass__(subclass: Any, /, **kwargs: Any) -> None:
        if own is None:
            super(cls, subclass).__init_subclass__(**kwargs)
        else:
            own.__func__(subclass, **kwargs)
        _prepare(subclass)

    cls.__init_subclass__ = classmethod(__init_subclass__)


def _copied(instance: Any) -> Any:
    copied = object.__new__(type(instance))
    for name, value in vars(instance).items():
        if name != "__bound_variables__":
            vars(copied)[name] = _copied(value) if is_group(value) else value
    vars(copied)[_ORIGIN] = origin(instance)
    return copied
