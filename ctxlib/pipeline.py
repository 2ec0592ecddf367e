"""Pipeline: the variables of a context file, run by hand in a notebook, a script or a variable."""

from __future__ import annotations

import copy
import os
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ctxlib import chosen
from ctxlib.definitions import Context
from ctxlib.errors import Problem
from ctxlib.graph import Graph
from ctxlib.items import Item, context_of, name_of, unpacked
from ctxlib.results import Results
from ctxlib.variable import RunData, Variable

_UNCHANGED: Final[Any] = object()
_RUN_DATA = ("raw", "proc", "all")
# DAMNIT's words for the same.
_ON_CONFLICT = {
    "error": "error",
    "keep": "keep",
    "left": "keep",
    "replace": "replace",
    "right": "replace",
}


class Pipeline:
    """Variables and groups that are computed together, and what they are computed with.

    `proposal` and `run_number` say which run is opened, and `run_data` ("raw", "proc" or "all")
    which of its data; instead of a run, `data` can be any object. `param_values` are the values of
    parameters by name. `name` is for people.

    `add` changes a pipeline; everything else that gives a pipeline gives a new one.
    """

    def __init__(
        self,
        proposal: int | None = None,
        run_number: int | None = None,
        *,
        name: str = "",
        data: object = None,
        run_data: str = "all",
        param_values: Mapping[str, object] | None = None,
    ) -> None:
        self.name = name
        self.proposal = proposal
        self.run_number = run_number
        self.data = data
        self.run_data = _checked_run_data(run_data)
        self.param_values = dict(param_values or {})
        self.results: Results | None = None
        self._base = Context(Path("<pipeline>"), "", {}, [], {})
        self._added: list[Item] = []
        self._known: Context | None = None

    @classmethod
    def from_context_file(cls, path: str | os.PathLike[str], *, name: str = "") -> Pipeline:
        """Load a context file, and the modules beside it, as they are now; raises ContextError."""
        from ctxlib.reloading import load_anew

        return cls(name=name)._with_base(load_anew(Path(path)))

    @classmethod
    def from_str(cls, code: str, *, path: str | None = None, name: str = "") -> Pipeline:
        """Load the text of a context file; problems call it `path`. Raises ContextError."""
        from ctxlib.reloading import load_string

        return cls(name=name)._with_base(load_string(code, path))

    @classmethod
    def default(cls) -> Pipeline:
        """The pipeline of the context file that is being executed: what is added to it is in it
        beside everything that the file defines.

        Outside of a context file it is a new pipeline, which nothing looks at.
        """
        choice = chosen.current()
        if choice is None:
            return cls()
        if choice.added is None:
            choice.added = cls()
        return choice.set or choice.added

    @classmethod
    def set_default(cls, pipeline: Pipeline) -> None:
        """Have the context file that is being executed consist of `pipeline` alone.

        Outside of a context file it does nothing. Raises TypeError for what is no Pipeline.
        """
        if not isinstance(pipeline, Pipeline):
            raise TypeError(f"set_default takes a Pipeline, not {pipeline!r}")
        choice = chosen.current()
        if choice is not None:
            choice.set = pipeline

    @property
    def vars(self) -> dict[str, Variable]:
        """The variables by their names."""
        return dict(self.contents().variables)

    @property
    def problems(self) -> list[Problem]:
        """What is wrong with the variables; the results of those concerned say it too."""
        return Graph(self.contents()).problems

    def add(self, *items: object) -> Pipeline:
        """Add variables and groups, lists of them, or groups by the names that they get.

        Gives this pipeline. What has no name, such as a group or a variable of a lambda, can be
        added in a context file, which gives it one. Raises TypeError for anything else, and
        ValueError when another variable of the same name is there.
        """
        added = [*self._added, *(found for item in items for found in unpacked(item))]
        named = [pair for pair in added if name_of(pair, {}) is not None]
        known = self._base.united_with(context_of(named, {}, self._base.path), "error")
        # Groups that have no name yet may get one before this is used.
        self._added, self._known = added, known if named == added else None
        return self

    def union(self, other: Pipeline, *, on_conflict: str = "error") -> Pipeline:
        """Give a pipeline with the variables of both, and what this one computes them with.

        Where both have another variable of the same name, `on_conflict` says what holds: "keep"
        that from here, "replace" it, or "error": ValueError. A variable that both share is none.
        Raises TypeError for what is no Pipeline.
        """
        if not isinstance(other, Pipeline):
            raise TypeError(
                f"union takes a Pipeline, not {other!r}; add takes variables and groups"
            )
        if on_conflict not in _ON_CONFLICT:
            raise ValueError(f'on_conflict={on_conflict!r}: give "error", "keep" or "replace"')
        mine, theirs = self.contents(), other.contents()
        return self._with_base(mine.united_with(theirs, _ON_CONFLICT[on_conflict]))

    def select(
        self,
        *,
        variables: str | Collection[str] | None = None,
        match: str | Collection[str] = (),
        run_data: str | None = None,
        cluster: bool | None = None,
    ) -> Pipeline:
        """Give a pipeline with some of the variables, and everything that these need.

        `variables` are names and `match` parts of titles; without both it is all. `run_data` leaves
        those that "raw" or "proc" data trigger, `cluster` those with a backend of their own (True)
        or without one (False). Raises KeyError for a name that there is not.
        """
        graph = Graph(self.contents())
        wanted: dict[str, Any] = {
            "data": _checked_run_data(run_data or "all"),
            "variables": None if variables is None else _texts(variables),
            "match": _texts(match),
        }
        found = graph.select(**wanted)
        if cluster is not None:
            # What is chosen is computed here, so that what it needs has to be here too.
            own = [node.name for node in found if bool(node.backend) is cluster]
            found = graph.select(data="all", variables=own)
        needed = {node.name for node in found}
        return self._with_base(self.contents().restricted_to(needed))

    def with_context(
        self,
        *,
        name: str = _UNCHANGED,
        proposal: int | None = _UNCHANGED,
        run_number: int | None = _UNCHANGED,
        run_data: str = _UNCHANGED,
        data: object = _UNCHANGED,
        param_values: Mapping[str, object] = _UNCHANGED,
    ) -> Pipeline:
        """Give a pipeline that computes the same with something else.

        `param_values` are added to those that there are.
        """
        given = {
            "name": name,
            "proposal": proposal,
            "run_number": run_number,
            "data": data,
            "run_data": run_data if run_data is _UNCHANGED else _checked_run_data(run_data),
        }
        new = self._copy()
        vars(new).update({k: value for k, value in given.items() if value is not _UNCHANGED})
        if param_values is not _UNCHANGED:
            new.param_values = {**self.param_values, **param_values}
        return new

    def execute(
        self, *, data: object = None, param_values: Mapping[str, object] | None = None
    ) -> Results:
        """Compute all variables in this process; give what came of them, and keep it as `results`.

        They are given `data`, here or of the pipeline, whatever it is. Where that is None the run
        `run_number` of `proposal` is opened with extra_data: ValueError if they are not known,
        NotFoundError and RunUnavailable if it cannot be. An error in a variable is not raised.
        """
        from ctxlib import direct  # NumPy is only loaded by who computes something

        graph = Graph(self.contents())
        numbers = direct.RunNumbers(self.proposal, self.run_number)
        run, kinds = self.data if data is None else data, "all"
        if run is None:
            if self.proposal is None or self.run_number is None:
                raise ValueError(
                    "nothing to compute with: give execute(data=...) any object, or say the run "
                    "with with_context(proposal=..., run_number=...)"
                )
            run, kinds = direct.open_run(numbers, self.run_data)
        given = {**self.param_values, **(param_values or {})}
        self.results = direct.execute(graph, run, kinds, numbers, given)
        return self.results

    def contents(
        self, namespace: Mapping[str, object] | None = None, path: Path | None = None
    ) -> Context:
        """The variables and parameters as a context.

        In `namespace`, that of the context file at `path`, groups have their names. Raises
        ValueError for what has no name.
        """
        if self._known is not None and namespace is None:
            return self._known
        names = {id(value): name for name, value in (namespace or {}).items()}
        base = self._base if path is None else replace(self._base, path=path)
        known = base.united_with(context_of(self._added, names, base.path), "error")
        if namespace is None:
            self._known = known
        return known

    def __repr__(self) -> str:
        try:
            what = ", ".join(self.contents().variables) or "no variables"
        except ValueError as error:
            what = str(error)
        name = f" {self.name!r}" if self.name else ""
        return f"<Pipeline{name}: {what if len(what) <= 200 else f'{what[:197]}...'}>"

    def _with_base(self, context: Context) -> Pipeline:
        new = self._copy()
        new._base, new._added, new._known = context, [], None
        return new

    def _copy(self) -> Pipeline:
        new = copy.copy(self)
        new._added = list(self._added)
        new.param_values = dict(self.param_values)
        new.results = None
        return new


def _texts(given: str | Collection[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _checked_run_data(run_data: str) -> str:
    if run_data not in _RUN_DATA:
        raise ValueError(f'run_data={run_data!r}: give "raw", "proc" or "all"')
    return str(RunData(run_data).value)
