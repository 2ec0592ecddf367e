"""Variable: a function of a run whose result is one column of the table."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from enum import Enum
from functools import cached_property
from typing import Any

from ctxlib.arguments import Argument, parse_arguments
from ctxlib.errors import Problem, nearest
from ctxlib.memory import LEAST, parse_memory
from ctxlib.positions import DEFINITION, line_in_function

__all__ = ["Argument", "RunData", "Variable", "parse_tags"]

CLUSTER = "cluster"
"""The backend that `cluster=True` means."""


class RunData(str, Enum):
    """What arrived, or triggers a variable; the texts "raw", "proc" and "all" do as well."""

    RAW = "raw"
    PROC = "proc"
    ALL = "all"


class Variable:
    """A decorator, with or without parentheses, that makes a variable of a function of a run.

    `title` heads the column (default: the variable's name), `description` explains it (default: the
    docstring), `summary` names the NumPy function that makes one number of an array, `data` is what
    triggers it ("raw" or "proc"; by default "proc" if it depends on a proc variable), `backend`
    names where it runs, in a job of its own, for which `cluster=True` is short for "cluster".
    `transient` results are not saved and `units` belong to the number.

    `timeout` is in seconds, for all its tries together; a function that raises is called again up
    to `retries` times. `cpus` (cores) and `memory` ("4G") hold while it runs, and cannot exceed the
    job's. Another `version` (a text or a whole number) says that its results are others than before
    although nothing else of it has changed.

    Arguments that cannot be right raise nothing, so that one of them does not cost the whole file:
    they are kept in `problems`, and the attribute has its default.
    """

    def __init__(
        self,
        title: object = None,
        description: str | None = None,
        summary: str | None = None,
        data: str | None = None,
        cluster: bool = False,
        tags: str | Iterable[str] | None = None,
        transient: bool = False,
        units: str | None = None,
        timeout: float | None = None,
        retries: int = 0,
        cpus: int | None = None,
        memory: str | None = None,
        version: str | int | None = None,
        backend: str | None = None,
        **unknown: object,
    ) -> None:
        self.func: Callable[..., Any] | None = None
        self.instance: object | None = None
        self.original: Variable = self
        self.name = ""
        self.problems: list[Problem] = []
        bare = callable(title)
        self.own_title = None if bare else self._text("title", title)
        self.title = self.own_title or ""
        self.description = self._text("description", description)
        self.summary = self._text("summary", summary, "give the name of a NumPy function")
        self.units = self._text("units", units)
        self.data = self._data(data)
        self.backend = self._backend(backend, self._flag("cluster", cluster))
        self.transient = self._flag("transient", transient)
        self.timeout = self._seconds(timeout)
        self.retries = self._whole("retries", retries, 0) or 0
        self.cpus = None if cpus is None else self._whole("cpus", cpus, 1)
        self.memory = self._bytes(memory)
        self.version = self._version(version)
        self.fields: tuple[str, ...] = ()
        """The parameters that fields of its group are."""
        self.tags, problem = parse_tags(tags)
        if problem is not None:
            self.problems.append(replace(problem, at="tags="))
        for name in unknown:
            known = [p for p in inspect.signature(Variable).parameters if p != "unknown"]
            mend = nearest(name, known, otherwise="there are " + ", ".join(known))
            message = f"@Variable has no argument {name!r}"
            self.problems.append(Problem(message, mend=mend, at=f"{name}="))
        if bare:
            self._decorate(title)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Take the function that is decorated; afterwards, call it."""
        if self.func is None:
            return self._decorate(*args, **kwargs)
        if self.instance is not None:
            return self.func(self.instance, *args, **kwargs)
        return self.func(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Variable:
        """Give the variable of one instance of a group, always the same object."""
        if instance is None:
            return self
        bound: dict[Variable, Variable] = vars(instance).setdefault("__bound_variables__", {})
        if self not in bound:
            variable = self.clone()
            vars(variable).pop("_parsed", None)
            variable.instance, variable.original = instance, self
            bound[self] = variable
        return bound[self]

    def clone(self) -> Variable:
        """Give a copy that can be named and blamed without changing what the user holds."""
        variable = copy.copy(self)
        variable.problems = list(self.problems)
        return variable

    def rename(self, name: str, *, title: str | None = None) -> None:
        """Give it its name in the table, and its title if it has not got one of its own."""
        self.name = name
        self.title = title or self.own_title or name

    def locate(self, problem: Problem, path: str) -> Problem:
        """Say of a problem whose it is, and where in the context file `path` or elsewhere."""
        source = problem.source or self.source
        line = problem.line or self.line_of(problem.at)
        located = replace(problem, variable=self.name, line=line, at="", source=source)
        return located.in_file(path)

    def line_of(self, part: str) -> int | None:
        """Give the line of a part of the definition, see `positions`; without it, the first."""
        code = self._code()
        found = None if code is None or not part else line_in_function(code, part)
        return found or self.line

    def __repr__(self) -> str:
        return f"<Variable {self.name!r}>"

    @property
    def cluster(self) -> bool:
        """Whether it runs in a cluster job."""
        return self.backend == CLUSTER

    @property
    def line(self) -> int | None:
        """The line at which the definition begins, in the file `source`."""
        code = self._code()
        return None if code is None else int(code.co_firstlineno)

    @property
    def source(self) -> str | None:
        """The path of the file in which the function is written."""
        code = self._code()
        return None if code is None else str(code.co_filename)

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """What the function asks for besides the run (and its group)."""
        return self._parsed[0]

    @arguments.setter
    def arguments(self, arguments: tuple[Argument, ...]) -> None:
        self._parsed = (arguments, self._parsed[1])

    @property
    def argument_problems(self) -> tuple[Problem, ...]:
        """What is wrong with the function's arguments."""
        return self._parsed[1]

    @cached_property
    def _parsed(self) -> tuple[tuple[Argument, ...], tuple[Problem, ...]]:
        # Not read before it is asked for: a method does not know yet that it is one.
        if self.func is None:
            return (), ()
        return parse_arguments(self.func, method=self.instance is not None)

    def _code(self) -> Any:
        return getattr(inspect.unwrap(self.func), "__code__", None) if self.func else None

    def _decorate(self, func: Any) -> Variable:
        if not callable(func):
            raise TypeError(f"@Variable is for functions, not for {func!r}")
        self.func = func
        self.rename(getattr(func, "__name__", ""))
        if self.description is None:
            self.description = inspect.getdoc(func) if inspect.isroutine(func) else None
        waits = inspect.iscoroutinefunction(func) or inspect.isasyncgenfunction(func)
        if waits or inspect.isgeneratorfunction(func):
            what = "is an async function" if waits else "yields its results"
            mend = "write an ordinary function that returns one"
            self.problems.append(Problem(what, mend=mend, at=DEFINITION))
        return self

    def _wrong(self, name: str, value: object, mend: str) -> None:
        message = f"{name}={value!r} is not possible"
        self.problems.append(Problem(message, mend=mend, at=f"{name}="))

    def _text(self, name: str, value: object, mend: str = "give a text") -> str | None:
        if value is None or (isinstance(value, str) and value):
            return value
        self._wrong(name, value, mend)
        return None

    def _flag(self, name: str, value: object) -> bool:
        if isinstance(value, bool):
            return value
        self._wrong(name, value, "give True or False")
        return False

    def _data(self, value: object) -> str | None:
        if value is None or (isinstance(value, str) and value in ("raw", "proc")):
            return None if value is None else str(RunData(value).value)
        guess = nearest(value, ("raw", "proc")) if isinstance(value, str) else ""
        self._wrong("data", value, guess or "give 'raw' or 'proc'")
        return None

    def _backend(self, value: object, cluster: bool) -> str | None:
        name = self._text("backend", value, "give the name of a backend")
        if cluster and name not in (None, CLUSTER):
            self._wrong("backend", value, "leave out cluster=True, or this")
            return None
        return CLUSTER if cluster else name

    def _seconds(self, value: object) -> float | None:
        if value is None:
            return None
        if isinstance(value, (int, float)) and value is not True and 0 < value < math.inf:
            return float(value)
        self._wrong("timeout", value, "give a number of seconds above 0")
        return None

    def _whole(self, name: str, value: object, least: int) -> int | None:
        if isinstance(value, int) and value is not True and value is not False and value >= least:
            return int(value)
        self._wrong(name, value, f"give a whole number, {least} or more")
        return None

    def _bytes(self, value: object) -> int | None:
        if value is None:
            return None
        try:
            memory = parse_memory(value) if isinstance(value, str) else 0
        except ValueError:
            memory = 0
        if memory >= LEAST:
            return memory
        self._wrong("memory", value, "give an amount with its unit, '4G' or '512M'; 64M or more")
        return None

    def _version(self, value: object) -> str | int | None:
        if value is None or (isinstance(value, (str, int)) and not isinstance(value, bool)):
            return value
        self._wrong("version", value, "give a text or a whole number")
        return None


def parse_tags(tags: object) -> tuple[tuple[str, ...], Problem | None]:
    """Read tags, one text or several, without repetition; wrong ones are left out and reported."""
    if tags is None:
        return (), None
    problem = Problem(
        f"tags={tags!r} is not possible", mend="give a text or a list of texts, none of them empty"
    )
    if isinstance(tags, str):
        given: list[object] = [tags]
    elif isinstance(tags, Iterable) and not isinstance(tags, (bytes, dict)):
        # A set has no order of its own that would be the same in the next process.
        given = sorted(tags, key=str) if isinstance(tags, (set, frozenset)) else list(tags)
    else:
        return (), problem
    good = [tag for tag in given if isinstance(tag, str) and tag.strip()]
    return tuple(dict.fromkeys(good)), None if len(good) == len(given) else problem
