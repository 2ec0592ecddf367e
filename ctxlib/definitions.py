"""What a context defines: made of the names in a file, of a part of another, or of two together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ctxlib import parameter
from ctxlib.collect import collect
from ctxlib.declared import Declared
from ctxlib.errors import Problem, nearest
from ctxlib.variable import Variable

# What is proposed for a summary that NumPy does not have.
_REDUCTIONS = ("mean", "median", "min", "max", "sum", "std", "var")
_SUMMARIES = (*_REDUCTIONS, "ptp", *(f"nan{name}" for name in _REDUCTIONS))


@dataclass
class Context:
    """A loaded context file, or what a pipeline is made of.

    `variables` by their full names, in the order of the file; `problems` with their lines; `files`
    gives size and time of modification (ns) of every project file that was imported. `declared` are
    its parameters.
    """

    path: Path
    sha256: str
    variables: dict[str, Variable]
    problems: list[Problem]
    files: dict[str, tuple[int, int]]
    declared: Declared = field(default_factory=Declared)

    @classmethod
    def of(
        cls,
        namespace: Mapping[str, object],
        path: Path,
        sha256: str = "",
        problems: Collection[Problem] = (),
    ) -> Context:
        """Collect what a namespace defines; `problems` are those known of the file already."""
        collected = collect(namespace, str(path))
        beside = [*problems, *collected.problems]
        every = _all_problems(collected.variables, beside, str(path))
        return cls(path, sha256, collected.variables, every, {}, collected.declared)

    def set_parameters(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Give the values that hold when these are `given`, and put them into groups' fields.

        A field without a value is the Parameter itself.
        """
        values = parameter.values(self.declared.parameters, given)
        for found in self.declared.fields:
            vars(found.owner)[found.attribute] = values.get(found.name, found.parameter)
        return values

    def restricted_to(self, names: Collection[str]) -> Context:
        """Give the same with these variables alone."""
        chosen = {name: v for name, v in self.variables.items() if name in names}
        return self._with(chosen, self._beside())

    def united_with(self, other: Context, on_conflict: str) -> Context:
        """Give the variables and parameters of both.

        Where both have another one of the same name, `on_conflict` says what holds: "keep" those
        from here, "replace" them, or "error": ValueError.
        """
        held, come = self.declared.parameters, other.declared.parameters
        parameters = _united("parameters", held, come, _is_same_parameter, on_conflict)
        variables = _united(
            "variables", self.variables, other.variables, _is_same_variable, on_conflict
        )
        declared = Declared(parameters, [*self.declared.fields, *other.declared.fields])
        beside = [*self._beside(), *(p for p in other._beside() if p not in self.problems)]
        files = {**self.files, **other.files}
        return replace(self._with(variables, beside), declared=declared, files=files)

    def _beside(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.variable is None]

    def _with(self, variables: dict[str, Variable], beside: list[Problem]) -> Context:
        problems = _all_problems(variables, beside, str(self.path))
        return replace(self, variables=variables, problems=problems)


def _united(
    what: str, first: Mapping[str, Any], second: Mapping[str, Any], is_same: Any, on_conflict: str
) -> dict[str, Any]:
    conflicts = [n for n in second if n in first and not is_same(first[n], second[n])]
    if conflicts and on_conflict == "error":
        names = ", ".join(repr(name) for name in conflicts)
        raise ValueError(
            f"both have {what} of these names, which are not the same: {names}; rename them, or "
            'choose with union(other, on_conflict="keep") or on_conflict="replace"'
        )
    if on_conflict == "replace":
        return {**first, **second}
    return {**first, **{name: value for name, value in second.items() if name not in first}}


def _is_same_variable(first: Variable, second: Variable) -> bool:
    return first.original is second.original and first.instance is second.instance


def _is_same_parameter(first: object, second: object) -> bool:
    return first is second


def _all_problems(
    variables: Mapping[str, Variable], beside: Collection[Problem], path: str
) -> list[Problem]:
    """Give every problem by its line: those of the variables, of two together, and the others."""
    problems = [*beside, *_title_problems(variables, path), *_summary_problems(variables, path)]
    for variable in variables.values():
        found = (*variable.problems, *variable.argument_problems)
        problems += [variable.locate(problem, path) for problem in found]
    return sorted(problems, key=lambda problem: problem.line or 0)


def _title_problems(variables: Mapping[str, Variable], path: str) -> Iterator[Problem]:
    """Of two equal titles the later one holds: readers find a variable by its title."""
    holders: dict[str, Variable] = {}
    for variable in reversed(list(variables.values())):
        holder = holders.setdefault(variable.title, variable)
        if holder is not variable:
            where = f" in line {holder.line_of('title=')}" if holder.source == path else ""
            message = f"its title {variable.title!r} is also that of {holder.name!r}{where}"
            problem = Problem(message, mend="give one of them another title", at="title=")
            yield variable.locate(problem, path)


def _summary_problems(variables: Mapping[str, Variable], path: str) -> Iterator[Problem]:
    for variable in variables.values():
        problem = None if variable.summary is None else wrong_summary(variable.summary)
        if problem is not None:
            yield variable.locate(problem, path)


def wrong_summary(name: str) -> Problem | None:
    """Say it if a summary is not the name of a function of NumPy."""
    import numpy  # only where a summary asks for it: it is half of the time that loading takes

    function = vars(numpy).get(name)
    if callable(function) and not isinstance(function, type):
        return None
    mend = nearest(name, _SUMMARIES, otherwise="use one such as 'mean' or 'nanmax'")
    message = f"summary={name!r} is not a function of NumPy"
    return Problem(message, mend=mend, at="summary=")
