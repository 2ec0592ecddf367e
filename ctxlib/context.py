"""Load a context file: execute it, name its variables and list every problem in it at once."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import ctxlib
from ctxlib import parameter
from ctxlib.collect import collect
from ctxlib.declared import Declared
from ctxlib.errors import ContextError, Problem, describe
from ctxlib.imports import files_changed, prepare_imports, project_files, stamp
from ctxlib.source import compile_source
from ctxlib.variable import Variable

__all__ = ["Context", "files_changed", "load"]

# What a context file is called as a module, wherever it lies.
_MODULE = "context"


@dataclass
class Context:
    """A loaded context file.

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

    def set_parameters(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Give the values that hold when these are `given`, and put them into groups' fields.

        A field without a value is the Parameter itself.
        """
        values = parameter.values(self.declared.parameters, given)
        for found in self.declared.fields:
            vars(found.owner)[found.attribute] = values.get(found.name, found.parameter)
        return values


def load(path: Path) -> Context:
    """Execute the context file at `path` in this process and collect its variables.

    Its folder is put on `sys.path`, and `damnit_ctx` means ctxlib from now on. Raises ContextError,
    with lines in the file, if it cannot be executed at all.
    """
    path = path.absolute()
    text = str(path)
    try:
        files = {text: stamp(text)}
        source = path.read_bytes()
    except OSError as error:
        problem = Problem(
            f"{path} cannot be read: {error.strerror}", mend="put a context file there"
        )
        raise ContextError([problem]) from error
    code, problems = compile_source(source, text)

    before = set(sys.modules)
    prepare_imports(path.parent)
    sys.modules["damnit_ctx"] = ctxlib
    # Known as a module while it runs: dataclasses and helper modules look it up.
    module = sys.modules[_MODULE] = ModuleType(_MODULE)
    module.__file__ = text
    try:
        exec(code, vars(module))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ContextError([_explain(error, text)]) from error

    collected = collect(vars(module), text)
    variables = collected.variables
    problems += collected.problems
    _check_titles(variables, text)
    _check_summaries(variables)
    for variable in variables.values():
        found = (*variable.problems, *variable.argument_problems)
        problems += [variable.locate(problem, text) for problem in found]
    problems.sort(key=lambda problem: problem.line or 0)
    files |= project_files(path.parent, before | {_MODULE})
    sha256 = hashlib.sha256(source).hexdigest()
    return Context(path, sha256, variables, problems, files, collected.declared)


def _explain(error: BaseException, path: str) -> Problem:
    """Say what went wrong at the top level, with the last line of the file that was reached."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == path]
    message, mend = describe(error), ""
    # The text of a SyntaxError says already where it is.
    if not isinstance(error, SyntaxError) and frames and frames[-1].filename != path:
        message += f" (raised in {frames[-1].filename}, line {frames[-1].lineno})"
    if isinstance(error, SystemExit):
        message, mend = f"the file ends the process ({message})", "take out the exit"
    elif isinstance(error, ModuleNotFoundError):
        mend = f"install it for {sys.executable}, or correct the name"
    return Problem(message, lines[-1] if lines else None, mend=mend)


def _check_titles(variables: dict[str, Variable], path: str) -> None:
    """Of two equal titles the later one holds: readers find a variable by its title."""
    holders: dict[str, Variable] = {}
    for variable in reversed(variables.values()):
        holder = holders.setdefault(variable.title, variable)
        if holder is not variable:
            where = f" in line {holder.line}" if holder.source == path else ""
            message = f"its title {variable.title!r} is also that of {holder.name!r}{where}"
            variable.problems.append(Problem(message, mend="give one of them another title"))


def _check_summaries(variables: dict[str, Variable]) -> None:
    asking = [variable for variable in variables.values() if variable.summary is not None]
    if not asking:
        return
    import numpy  # only where a summary asks for it: it is half of the time that loading takes

    known = vars(numpy)
    for variable in asking:
        function = known.get(str(variable.summary))
        if not callable(function) or isinstance(function, type):
            message = f"summary={variable.summary!r} is not a function of NumPy"
            variable.problems.append(Problem(message, mend="use one such as 'mean' or 'nanmax'"))


def main(context: str, result: str) -> None:
    """Load a context file and write what is in it to the JSON file `result`."""
    from ctxlib.graph import Graph

    path, target = Path(context).absolute(), Path(result).absolute()
    answer: dict[str, object]
    try:
        if path.parent.is_dir():
            os.chdir(path.parent)  # as where it runs: files named in it are beside it
        graph = Graph(load(path))
    except ContextError as error:
        answer = {"broken": [problem.to_json() for problem in error.problems]}
    else:
        answer = {
            "problems": [problem.to_json() for problem in graph.problems],
            "variables": [node.describe() for node in graph.nodes.values()],
            "parameters": graph.describe_parameters(),
        }
    target.write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
