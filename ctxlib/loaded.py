"""A context as a runner has it, and which part of a run its job computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctxlib.definitions import Context
from ctxlib.graph import Graph
from ctxlib.selection import FIRST
from ctxlib.variable import CLUSTER


@dataclass(frozen=True)
class Loaded:
    """A context's graph, the hash of the file that it is from, and what is said of its variables.

    That is known before its jobs put the values of parameters into the fields of groups.
    """

    graph: Graph
    sha256: str
    described: list[dict[str, object]]

    @classmethod
    def of(cls, context: Context) -> Loaded:
        """Resolve the dependencies of a loaded context, and all else that its jobs share."""
        return cls.with_graph(Graph(context))

    @classmethod
    def with_graph(cls, graph: Graph) -> Loaded:
        """Describe a graph."""
        return cls(graph, graph.context.sha256, graph.describe())

    def for_backends(self, backends: Mapping[str, str] | Sequence[str] | None) -> Loaded:
        """The same when variables may name these backends (None: any), as `Graph` takes them."""
        if backends is not None and not isinstance(backends, Mapping):
            backends = dict.fromkeys(backends, "")  # requests of earlier versions have a list
        graph = self.graph.with_backends(backends)
        return self if graph is self.graph else Loaded.with_graph(graph)


def part_of(request: Mapping[str, Any]) -> str:
    """The part of its run that a job computes; those of earlier versions knew of two."""
    if "part" in request:
        return str(request["part"])
    return CLUSTER if request.get("cluster") else FIRST
