"""Group: a class of variables that can be instantiated with different settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, overload

from ctxlib.variable import Variable

C = TypeVar("C", bound=type)
_RESERVED = ("title", "tags", "sep")
# Kept on classes and on instances, under names that no field has.
_PROPERTIES = "__group_properties__"
_ORIGIN = "__group_origin__"
_GIVEN = "__group_given_name__"


@dataclasses.dataclass(frozen=True)
class Properties:
    """What the decorator says for all instances of a class that do not say it themselves."""

    title: object = None
    tags: object = None
    sep: object = "/"


@overload
def Group(cls: C, /) -> C: ...


@overload
def Group(
    *, title: str | None = None, tags: str | Iterable[str] | None = None, sep: str = "/"
) -> Callable[[C], C]: ...


def Group(cls: Any = None, /, *, title: Any = None, tags: Any = None, sep: Any = "/") -> Any:
    """Make a group of a class, with or without parentheses.

    The annotated attributes of the class become fields, given to its instances by name, as in a
    dataclass. An instance takes `title`, `tags` and `sep` too, in this order or by name; what it
    does not say is the decorator's. `title` heads the titles of all its variables, joined by `sep`;
    `tags` go to all of them. An instance's `name` is the name that it is assigned to, or what is
    given as `name`, unless the class has a `name` of its own.

    A subclass that is not decorated is a group with the same properties; decorating it resets them.
    Raises TypeError for a class that cannot be a group.
    """

    def decorate(target: Any) -> Any:
        if not isinstance(target, type):
            raise TypeError(f"@Group is for classes, not for {target!r}: write @Group(title=...)")
        _prepare(target)
        setattr(target, _PROPERTIES, Properties(title, tags, sep))
        return target

    return decorate if cls is None else decorate(cls)


group = Group


def is_group(value: object) -> bool:
    """Whether the value is an instance of a group."""
    return hasattr(type(value), _PROPERTIES)


def properties(instance: object) -> Properties:
    """Give what the class of a group says about its instances."""
    found = getattr(type(instance), _PROPERTIES)
    assert isinstance(found, Properties)
    return found


def declares_name(cls: type) -> bool:
    """Whether `name` means something else in this class than the name of the instance."""
    fields = getattr(cls, "__dataclass_fields__", {})
    return "name" in fields or hasattr(cls, "name")


def given_name(instance: object) -> str | None:
    """Give the name that was given to an instance when it was made, if any."""
    name = vars(instance).get(_GIVEN)
    if name is None:
        return None
    if isinstance(name, str) and all(part.isidentifier() for part in name.split(".")):
        return name
    raise TypeError(f"the name {name!r} of a group is not possible: give letters, digits and _")


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
        if name not in _RESERVED
        and (value is None or isinstance(value, Variable) or is_group(value))
    }


def origin(instance: Any) -> object:
    """Give the instance in a class body that this one was copied from, else itself."""
    return vars(instance).get(_ORIGIN, instance)


def _prepare(cls: Any) -> None:
    """Make a dataclass of the class whose instances take the group's properties too."""
    if "__group_prepared__" in vars(cls):
        return
    if "__init__" in vars(cls) and "__dataclass_params__" not in vars(cls):
        raise TypeError(
            f"group {cls.__name__} cannot have an __init__ of its own: declare fields, and compute "
            "what follows from them in __post_init__"
        )
    dataclasses.dataclass(kw_only=True, eq=False)(cls)
    own = {name for name, _ in class_attributes(cls)} | set(cls.__dataclass_fields__)
    for name in _RESERVED:
        if name in own:
            raise TypeError(
                f"group {cls.__name__} cannot have an attribute {name!r} of its own: it is the "
                f"group's, as in @Group({name}=...); choose another name"
            )
    cls.__group_prepared__ = True
    _extend_init(cls)
    _prepare_subclasses(cls)


def _extend_init(cls: Any) -> None:
    set_fields = cls.__init__
    owns_name = declares_name(cls)

    def __init__(
        self: Any, title: Any = None, tags: Any = None, sep: Any = None, **fields: Any
    ) -> None:
        vars(self).update(title=title, tags=tags, sep=sep)
        if not owns_name:
            vars(self)["name"] = vars(self)[_GIVEN] = fields.pop("name", None)
            given_name(self)  # refuses an impossible one here, where the line is known
        for name, value in class_attributes(cls):
            # What stands in a class body is there once; each owner gets its own.
            if is_group(value) and name not in cls.__dataclass_fields__:
                vars(self)[name] = _copied(value)
            elif is_group(value):
                fields.setdefault(name, _copied(value))
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
