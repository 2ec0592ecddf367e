"""Computes variables in this process, as a runner does in its own, and keeps what they give."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

from ctxlib import sources, summaries
from ctxlib.cell import Cell
from ctxlib.definitions import Context
from ctxlib.errors import Skip, VariableError, describe
from ctxlib.evaluate import evaluate
from ctxlib.graph import Graph, Node
from ctxlib.metadata import Catalogue, Metadata, MetadataError
from ctxlib.places import NotFoundError, find_proposal
from ctxlib.protect import protected
from ctxlib.results import Results

_log = logging.getLogger("ctxlib.pipeline")


@dataclass(frozen=True)
class RunNumbers:
    """Which run variables are told of; None where that is not known."""

    proposal: int | None
    run: int | None

    def request(self, data: str) -> dict[str, Any]:
        """What sources and catalogues ask of a run; raises NotFoundError for the proposal."""
        root = None if self.proposal is None else str(find_proposal(self.proposal))
        return {
            "proposal": self.proposal,
            "run": self.run,
            "data": data,
            "proposal_path": root,
            "mock": False,
        }


def open_run(numbers: RunNumbers, run_data: str) -> tuple[object, str]:
    """Open a run of EuXFEL; give it, and what of raw and proc is in it.

    Raises NotFoundError for the proposal, and RunUnavailable.
    """
    request = numbers.request(run_data)
    data = sources.available_data(request)
    return sources.open_run({**request, "data": data}).run, data


def execute(
    graph: Graph, run: object, data: str, numbers: RunNumbers, given: Mapping[str, object]
) -> Results:
    """Compute all variables of a graph for a run, or for whatever stands for one.

    `data` says whether that is raw data alone: variables that need proc data are skipped then.
    `given` are values of parameters. What cannot be saved is its variable's error here too.
    """
    recorder = _Recorder({name for node in graph.nodes.values() for name in node.dependencies})
    nodes = [graph.nodes[name] for name in graph.order]
    missing = [node for node in nodes if data == "raw" and node.data == "proc"]
    for node in missing:
        recorder.failed(node, Skip("it needs proc data, and of the run there is only raw data"))
    with _parameters(graph.context, given) as params:
        evaluate(
            [node for node in nodes if node not in missing],
            run,
            _Meta(numbers),
            recorder,
            known=_NothingKnown(),
            params=params,
            metadata=_metadata(numbers),
        )
    return recorder.results()


@contextmanager
def _parameters(context: Context, given: Mapping[str, object]) -> Iterator[dict[str, Any]]:
    """Set parameters, and set them back: who executes this may have others in the same groups."""
    fields = context.declared.fields
    before = [vars(found.owner).get(found.attribute, found.parameter) for found in fields]
    try:
        yield context.set_parameters(given)
    finally:
        for found, value in zip(fields, before, strict=True):
            vars(found.owner)[found.attribute] = value


def _metadata(numbers: RunNumbers) -> Metadata | None:
    if numbers.proposal is None or numbers.run is None:
        return None

    def open_catalogue(_name: str) -> Catalogue:
        from ctxlib.metadata import mymdc  # only what asks for it pays for it

        try:
            return mymdc.open_catalogue(numbers.request("all"))
        except NotFoundError as error:
            raise MetadataError(str(error)) from error

    return Metadata(open_catalogue, _log.warning)


class _Meta(dict[str, object]):
    """What `meta#` gives; what is not known costs only the variables that ask for it."""

    def __init__(self, numbers: RunNumbers) -> None:
        known = {"proposal": numbers.proposal, "run_number": numbers.run}
        super().__init__({name: value for name, value in known.items() if value is not None})

    def __missing__(self, name: str) -> object:
        if name == "proposal_path" and "proposal" in self:
            try:
                self[name] = find_proposal(cast(int, self["proposal"]))
            except NotFoundError as error:
                raise VariableError(f"meta#{name}: {error}") from error
            return self[name]
        asked = "proposal" if name == "proposal_path" else name
        raise VariableError(f"meta#{name} is not known here: say it with with_context({asked}=...)")


class _NothingKnown:
    """Nothing has been computed before."""

    def value(self, name: str) -> object:
        raise KeyError(name)

    def error(self, _name: str) -> None:
        return None

    def done(self, _name: str) -> bool:
        return False


@dataclass
class _Recorder:
    """Keeps results as they were when they were returned; `needed` are those others are given."""

    needed: set[str]
    cells: dict[str, Cell] = field(default_factory=dict)
    errors: dict[str, BaseException] = field(default_factory=dict)
    transient: set[str] = field(default_factory=set)
    transient_values: dict[str, object] = field(default_factory=dict)

    def started(self, node: Node) -> None:
        """Nobody waits for it."""

    def finished(self, node: Node, value: object) -> None:
        variable = node.variable
        if variable.transient:
            self.transient.add(node.name)
            self.transient_values[node.name] = self._kept(node, value)
            return
        # Refuses what the table could not hold, so that it does not work here and fail there.
        summaries.prepare(value, summary=variable.summary, units=variable.units, log=_logger(node))
        cell = value if isinstance(value, Cell) else Cell(value)
        self.cells[node.name] = replace(
            cell,
            data=self._kept(node, cell.data),
            summary=cell.summary or variable.summary,
            units=cell.units or variable.units,
        )

    def failed(self, node: Node, error: BaseException) -> None:
        if node.variable.transient:
            self.transient.add(node.name)
        self.errors[node.name] = error

    def retried(self, node: Node, error: Exception, left: int) -> None:
        _log.info("%s: %s; %d more tries", node.name, describe(error), left)

    def _kept(self, node: Node, value: object) -> object:
        # Who is given it may change it.
        return protected(value) if node.name in self.needed else value

    def results(self) -> Results:
        """What has come together."""
        return Results(self.cells, self.errors, frozenset(self.transient), self.transient_values)


def _logger(node: Node) -> Callable[[str], None]:
    return lambda text: _log.warning("%s: %s", node.name, text)
