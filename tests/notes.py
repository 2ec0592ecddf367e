"""A recorder for `ctxlib.evaluate` that remembers, and knows of nothing from before."""

from ctxlib.evaluate import evaluate
from ctxlib.graph import Graph


class Notes:
    """`values` and `errors` by the variables' names."""

    def __init__(self):
        self.values, self.errors = {}, {}

    def started(self, node): ...

    def retried(self, node, error, left): ...

    def finished(self, node, value):
        self.values[node.name] = value

    def failed(self, node, error):
        self.errors[node.name] = error

    def value(self, name):
        raise KeyError(name)

    def error(self, name): ...

    def done(self, name):
        return False


def evaluated(graph, run=1, meta=None, **more):
    """What an evaluation of all variables gives."""
    notes = Notes()
    nodes = [graph.nodes[name] for name in graph.order]
    evaluate(nodes, run, meta or {}, notes, known=notes, **more)
    return notes


def results(context, run=1):
    """The values of all variables of a context file, of which none may fail."""
    notes = evaluated(Graph(context), run)
    assert not notes.errors
    return notes.values
