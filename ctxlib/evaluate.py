"""Take one run through the graph: arguments, defaults, skips and errors.

Knows nothing of where results go or come from; that is the recorder's and `Known`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ctxlib.arguments import DEPENDENCIES, Argument
from ctxlib.cell import Cell
from ctxlib.errors import Skip, VariableError, describe
from ctxlib.given import Given, Metadata
from ctxlib.graph import Node
from ctxlib.protect import protected

_Use = tuple[str, str]
"""A variable and its argument, by name."""


class Recorder(Protocol):
    """What is told of each variable, at once."""

    def started(self, node: Node) -> None:
        """Note that the variable's function is about to be called."""

    def finished(self, node: Node, value: object) -> None:
        """Save the value; an exception raised here is the variable's error."""

    def failed(self, node: Node, error: BaseException) -> None:
        """Note that the variable has an error, Skip included, and no value."""

    def retried(self, node: Node, error: Exception, left: int) -> None:
        """Note that the function raised and is called again, and up to `left` times in all."""


class Known(Protocol):
    """What earlier runners of this job, and the jobs before it, found out."""

    def value(self, name: str) -> object:
        """Give a result; KeyError if there is none, another exception if it cannot be read."""

    def error(self, name: str) -> tuple[str, str] | None:
        """Give type name and text of a variable's error, if it has one."""

    def done(self, name: str) -> bool:
        """Say whether the variable has ended, with a value, with an error or with nothing."""


def evaluate(
    nodes: Sequence[Node],
    run: object,
    meta: Mapping[str, object],
    recorder: Recorder,
    *,
    known: Known,
    params: Mapping[str, object] | None = None,
    metadata: Metadata | None = None,
    interruptible: bool = True,
) -> None:
    """Compute the variables in `nodes`, which are in order of dependency, for one run.

    `meta` has run_number, proposal and proposal_path, `params` the values of parameters as
    `Context.set_parameters` gave them, and `metadata` what catalogues know. What is done is not
    computed again; a transient result is, when something still needs it. Whatever a variable raises
    is its own error, and concerns only what depends on it; KeyboardInterrupt passes where
    a person may interrupt. So does what the recorder's methods raise, but for `finished`.
    """
    given = Given(run, meta, params or {}, metadata)
    pending = _pending(nodes, known)
    results = _Results(pending, known)
    for node in pending:
        if node.problem is None:
            _compute(node, given, results, recorder, interruptible=interruptible)
        else:
            _fail(node, VariableError(str(node.problem)), results, recorder)


def _compute(
    node: Node, given: Given, results: _Results, recorder: Recorder, *, interruptible: bool
) -> None:
    try:
        arguments = _arguments(node, given, results)
    except Exception as error:  # noqa: BLE001  Skip; or a copy for which the memory is not enough
        results.release(node)
        _fail(node, error, results, recorder)
        return
    recorder.started(node)
    try:
        value = _call(node, given.run, arguments, recorder)
        arguments.clear()  # frees what nothing needs any more, before the result is saved
        recorder.finished(node, value)
    except BaseException as error:  # sys.exit() in a variable is its own error
        if interruptible and isinstance(error, KeyboardInterrupt):
            raise
        _fail(node, error, results, recorder)
    else:
        results.put(node.name, value)


def _call(node: Node, run: object, arguments: dict[str, object], recorder: Recorder) -> object:
    """Call the function, and again if it raises and may be; each time with values of its own."""
    for left in range(node.variable.retries, 0, -1):
        try:
            copies = {name: protected(value) for name, value in arguments.items()}
            return node.variable(run, **copies)
        except Skip:
            raise
        except Exception as error:  # noqa: BLE001  the last try is the one that counts
            recorder.retried(node, error, left)
    return node.variable(run, **arguments)


def _pending(nodes: Sequence[Node], known: Known) -> list[Node]:
    """Leave out what is done, and done transient variables that nothing here needs again."""
    needed: set[str] = set()
    pending = []
    for node in reversed(nodes):
        if known.done(node.name):
            # One that ended in an error, or killed its process, would do so again.
            failed = known.error(node.name) is not None
            if failed or not node.variable.transient or node.name not in needed:
                continue
        pending.append(node)
        needed.update(node.dependencies if node.problem is None else ())
    return pending[::-1]


def _fail(node: Node, error: BaseException, results: _Results, recorder: Recorder) -> None:
    recorder.failed(node, error)
    if isinstance(error, Skip):
        results.reasons[node.name] = f"was skipped: {str(error) or 'no reason given'}"
    else:
        results.reasons[node.name] = f"failed: {describe(error)}"


def _arguments(node: Node, given: Given, results: _Results) -> dict[str, object]:
    """Find the value of every argument; Skip says which dependency gave none, and why."""
    for argument in node.inputs:
        needed = argument.kind in DEPENDENCIES and argument.required
        if needed and not any(results.has(name) for name in argument.names):
            name = argument.names[0]
            raise Skip(f"needs {name!r}, which {results.reason(name)}")
    given.check_fields(node)
    # Before any result is taken: one that cannot be given costs no dependency its copy.
    outside = {a.name: given.value(a) for a in node.inputs if a.kind not in DEPENDENCIES}
    inside = {
        argument.name: _dependency(node, argument, results)
        for argument in node.inputs
        if argument.kind in DEPENDENCIES
    }
    return outside | inside


def _dependency(node: Node, argument: Argument, results: _Results) -> object:
    use = (node.name, argument.name)
    values = {name: results.take(name, use) for name in argument.names if results.has(name)}
    if not values:
        return argument.default
    return values if argument.is_glob else values[argument.names[0]]


class _Results:
    """The values that variables still to come need; nothing is kept longer than that."""

    def __init__(self, pending: Sequence[Node], known: Known) -> None:
        self.reasons: dict[str, str] = {}
        self._values: dict[str, object] = {}
        self._known = known
        self._computed = {node.name for node in pending}
        # By name, which argument of which variable will still take the value.
        self._uses: dict[str, set[_Use]] = {}
        for node in pending:
            for argument in node.inputs if node.problem is None else ():
                for name in argument.names:
                    self._uses.setdefault(name, set()).add((node.name, argument.name))

    def put(self, name: str, value: object) -> None:
        if isinstance(value, Cell):
            value = value.data
        if value is None:
            self.reasons[name] = "returned nothing"
        elif self._uses.get(name):
            self._values[name] = value

    def has(self, name: str) -> bool:
        if name not in self._values and name not in self.reasons and name not in self._computed:
            self._look_up(name)
        return name in self._values

    def reason(self, name: str) -> str:
        return self.reasons.get(name, "was not computed")

    def take(self, name: str, use: _Use) -> object:
        """Give a value for one use: a copy, unless it is the last one."""
        self._uses[name].discard(use)
        if self._uses[name]:
            return protected(self._values[name])
        return self._values.pop(name)

    def release(self, node: Node) -> None:
        """Let go of what a variable would have used that is not computed after all."""
        for argument in node.inputs:
            for name in argument.names:
                self._uses[name].discard((node.name, argument.name))
                if not self._uses[name]:
                    self._values.pop(name, None)

    def _look_up(self, name: str) -> None:
        error = self._known.error(name)
        if error is not None:
            skipped, (kind, text) = error[0] == "Skip", error
            self.reasons[name] = f"was skipped: {text}" if skipped else f"failed: {kind}: {text}"
            return
        try:
            self.put(name, self._known.value(name))
        except KeyError:
            done = self._known.done(name)
            self.reasons[name] = "returned nothing" if done else "was not computed"
        except Exception as failure:  # noqa: BLE001  a damaged file must cost only its dependents
            self.reasons[name] = f"cannot be read: {describe(failure)}"
