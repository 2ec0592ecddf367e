"""The dependencies between variables: their order, what triggers each, and what a job needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING

from ctxlib.arguments import Argument
from ctxlib.components import components, cycle_through
from ctxlib.errors import Problem, nearest
from ctxlib.parameter import Parameter
from ctxlib.selection import WHOLE, Choice, Part, Selection
from ctxlib.variable import Variable

if TYPE_CHECKING:
    from ctxlib.context import Context


@dataclass(frozen=True)
class Node:
    """A variable in its graph.

    `data` ("raw" or "proc") and `backend` ("": that of the run's first job) are what holds when its
    dependencies have had their say.
    `inputs` are its arguments with the names of the variables that they mean, `dependencies` these
    names. A node with a `problem` is not computed, and neither is what depends on it.
    """

    variable: Variable
    name: str
    title: str
    data: str
    backend: str
    dependencies: tuple[str, ...]
    inputs: tuple[Argument, ...]
    problem: Problem | None

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters that reach it, by its arguments or its group's fields."""
        named = (a.target for a in self.variable.arguments if a.kind == "param")
        return tuple(dict.fromkeys((*self.variable.fields, *named)))

    def as_choice(self) -> Choice:
        """Give it as what a job can choose."""
        transient = self.variable.transient
        needs = self.dependencies if self.problem is None else ()
        return Choice(self.name, self.title, self.data, self.backend, transient, needs)

    def describe(self) -> dict[str, object]:
        """Give what the daemon needs to know of it, as JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "description": self.variable.description,
            "tags": list(self.variable.tags),
            "data": self.data,
            "backend": self.backend,
            "transient": self.variable.transient,
            "units": self.variable.units,
            "summary": self.variable.summary,
            "parameters": list(self.parameters),
            "version": self.variable.version,
            "dependencies": list(self.dependencies),
        }


class Graph:
    """All variables of a context.

    `nodes` are in the order of the file, `order` has every dependency before its dependents, and
    `problems` are all there are, the context's included, by line.
    """

    def __init__(self, context: Context, backends: Mapping[str, str] | None = None) -> None:
        """Resolve `context`, whose variables may name the `backends`; None: any.

        Each has the reason for which variables cannot run there after all, "" where they can.
        """
        self.context = context
        self._backends = backends
        self._found: dict[str, list[Problem]] = {name: [] for name in context.variables}
        beside: list[Problem] = []
        for problem in context.problems:
            self._found.get(problem.variable or "", beside).append(problem)

        inputs = {name: self._inputs(v) for name, v in context.variables.items()}
        edges = {
            name: tuple(dict.fromkeys(target for a in arguments for target in a.names))
            for name, arguments in inputs.items()
        }
        place = {name: number for number, name in enumerate(context.variables)}
        self.order: list[str] = []
        for component in components(edges):
            self._break_cycles(component, edges, inputs)
            self.order += sorted(component, key=place.__getitem__)

        made: dict[str, Node] = {}
        for name in self.order:
            made[name] = self._node(context.variables[name], edges[name], inputs[name], made)
        self.nodes = {name: made[name] for name in context.variables}
        every = [*beside, *(problem for found in self._found.values() for problem in found)]
        self.problems = sorted(every, key=lambda problem: problem.line or 0)

    def describe(self) -> list[dict[str, object]]:
        """Give what the daemon needs to know of all variables, their fingerprints included."""
        return [
            {**node.describe(), "fingerprint": self.fingerprints[name]}
            for name, node in self.nodes.items()
        ]

    @cached_property
    def fingerprints(self) -> dict[str, dict[str, str]]:
        """What the result of each variable depends on; see `fingerprint`."""
        from ctxlib.fingerprint import Fingerprints  # only where results are kept, or compared

        fingerprints = Fingerprints(self.context)
        return {name: fingerprints.parts(node) for name, node in self.nodes.items()}

    def describe_parameters(self) -> list[dict[str, object]]:
        """Give what the daemon needs to know of the parameters, those only asked for included."""
        declared = self.context.declared.parameters
        asked = (name for node in self.nodes.values() for name in node.parameters)
        names = dict.fromkeys((*declared, *asked))
        return [declared.get(name, Parameter()).describe(name) for name in names]

    def select(
        self,
        *,
        data: str,
        variables: Collection[str] | None = None,
        match: Collection[str] = (),
        part: str = WHOLE,
        home: str = "",
    ) -> list[Node]:
        """Choose what a job computes, in order, with everything that is needed for it.

        `data` is what arrived: "raw", "proc" or "all". `variables` (exact names) and `match` (parts
        of titles, in any case) choose among what that triggers; without both it is all. Of this the
        job computes one `part`, when the first one runs on the backend `home`, and the transient
        results of others that it needs again. Raises KeyError for an unknown name.
        """
        chosen = self._selection.chosen(data, variables, match)
        needed = self._selection.part(chosen, part, home)
        return [self.nodes[name] for name in self.order if name in needed]

    def later(
        self,
        *,
        data: str,
        variables: Collection[str] | None = None,
        match: Collection[str] = (),
        home: str = "",
    ) -> list[Part]:
        """Give the parts that follow the first one, with arguments as for `select`."""
        chosen = self._selection.chosen(data, variables, match)
        return self._selection.parts(chosen, home)[1:]

    def with_backends(self, backends: Mapping[str, str] | None) -> Graph:
        """Give the graph when variables may name just these backends; this one if they do."""
        named = {v.backend for v in self.context.variables.values() if v.backend is not None}
        wrong, before = (
            {} if known is None else {n: known.get(n) for n in named if known.get(n) != ""}
            for known in (backends, self._backends)
        )
        return self if wrong == before else Graph(self.context, backends)

    @cached_property
    def _selection(self) -> Selection:
        return Selection(node.as_choice() for node in self.nodes.values())

    def _inputs(self, variable: Variable) -> tuple[Argument, ...]:
        inputs = []
        for argument in variable.arguments:
            if argument.kind == "var":
                names = self._names(variable, argument)
                if names:
                    inputs.append(replace(argument, names=names))
            else:
                inputs.append(argument)
        return tuple(inputs)

    def _names(self, variable: Variable, argument: Argument) -> tuple[str, ...]:
        """Find the variables that a `var#` means, and report it if there are none."""
        target = argument.target
        if target in self.context.variables:
            return (target,)
        mend = "see the names with read-context"
        if argument.is_glob:
            names = [
                n for n in self.context.variables if fnmatchcase(n, target) and n != variable.name
            ]
            if names:
                return tuple(names)
            message = "no variable matches"
        else:
            others = [name for name in self.context.variables if name != variable.name]
            message, mend = "there is no such variable", nearest(target, others) or mend
        message = f"argument {argument.name!r}: 'var#{target}': {message}"
        self._report(variable, message, mend, argument.name)
        return ()

    def _break_cycles(
        self,
        component: list[str],
        edges: dict[str, tuple[str, ...]],
        inputs: dict[str, tuple[Argument, ...]],
    ) -> None:
        """Report every variable on a cycle with its path, and take out the cycle's edges."""
        inside = set(component)
        within = {name: [t for t in edges[name] if t in inside] for name in component}
        for name in component:
            cycle = cycle_through(name, within)
            if cycle is not None:
                message = "it depends on itself: " + " → ".join(cycle)
                mend = "take out one of these dependencies"
                at = next((a.name for a in inputs[name] if cycle[1] in a.names), "")
                self._report(self.context.variables[name], message, mend, at)
            edges[name] = tuple(target for target in edges[name] if target not in inside)

    def _node(
        self,
        variable: Variable,
        dependencies: tuple[str, ...],
        inputs: tuple[Argument, ...],
        made: dict[str, Node],
    ) -> Node:
        proc = [name for name in dependencies if made[name].data == "proc"]
        if proc and variable.data == "raw":
            message = f'it is declared data="raw" but depends on {proc[0]!r}, which needs proc data'
            self._report(variable, message, 'leave data out, or write data="proc"', "data=")
        backend = self._backend(variable)
        if backend is None:
            backend = next((b for name in dependencies if (b := made[name].backend)), "")
        return Node(
            variable=variable,
            name=variable.name,
            title=variable.title,
            data=variable.data or ("proc" if proc else "raw"),
            backend=backend,
            dependencies=dependencies,
            inputs=inputs,
            problem=_merged(self._found[variable.name]),
        )

    def _backend(self, variable: Variable) -> str | None:
        """Give the backend that a variable names, "" for one that is none for it; None: none."""
        name = variable.backend
        if name is None or self._backends is None or self._backends.get(name) == "":
            return name
        if why := self._backends.get(name):
            self._report(variable, f"backend {name!r} {why}", "name another one", "backend=")
            return ""
        able = [each for each, why in self._backends.items() if not why]
        names, guess = ", ".join(sorted(able)), nearest(name, able)
        mend = f"{guess} There are: {names}" if guess else f"there are: {names}"
        self._report(variable, f"there is no backend {name!r}", mend, "backend=")
        return ""

    def _report(self, variable: Variable, message: str, mend: str, at: str) -> None:
        """Note a problem of a variable; `at` is the part of its definition that it is in."""
        problem = variable.locate(Problem(message, mend=mend, at=at), str(self.context.path))
        self._found[variable.name].append(problem)


def _merged(problems: list[Problem]) -> Problem | None:
    """Make one problem of all that a variable has: its cell has one text."""
    if not problems:
        return None
    if len(problems) == 1:
        return problems[0]
    messages = [f"{p.message} ({p.mend})" if p.mend else p.message for p in problems]
    return replace(problems[0], message="; ".join(messages), mend="")
