"""Load a context file: execute it, name its variables and list every problem in it at once."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import ctxlib
from ctxlib import chosen
from ctxlib.definitions import Context
from ctxlib.errors import ContextError, Problem, describe
from ctxlib.imports import (
    CONTEXT,
    files_changed,
    files_read,
    prepare_imports,
    project_files,
    stamp,
)
from ctxlib.source import compile_source

__all__ = ["Context", "files_changed", "load"]


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
    before = {*sys.modules, CONTEXT}
    prepare_imports(path.parent)
    context = load_text(source, text)
    context.files |= files | project_files(path.parent, before)
    return context


def load_text(source: bytes, name: str) -> Context:
    """Execute the text of a context file, which problems and tracebacks call `name`.

    Like `load`, but modules are only imported from where Python looks for them anyway.
    """
    code, problems = compile_source(source, name)
    sys.modules["damnit_ctx"] = ctxlib
    # Known as a module while it runs: dataclasses and helper modules look it up.
    module = sys.modules[CONTEXT] = ModuleType(CONTEXT)
    module.__file__ = name
    sha256 = hashlib.sha256(source).hexdigest()
    try:
        with chosen.executing() as choice:
            exec(code, vars(module))
        context = Context.of(vars(module), Path(name), sha256, problems)
        if choice.set is not None:
            return replace(choice.set.contents(vars(module), context.path), sha256=sha256)
        if choice.added is not None:
            added = choice.added.contents(vars(module), context.path)
            return context.united_with(added, "error")
        return context
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ContextError([_explain(error, name)]) from error


def _explain(error: BaseException, path: str) -> Problem:
    """Say what went wrong at the top level, with the last line of the file that was reached."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == path]
    message = describe(error)
    # The text of a SyntaxError says already where it is.
    if not isinstance(error, SyntaxError) and frames and frames[-1].filename != path:
        message += f" (raised in {frames[-1].filename}, line {frames[-1].lineno})"
    mend = "correct the line"
    if isinstance(error, SystemExit):
        message, mend = f"the file ends the process ({message})", "take out the exit"
    elif isinstance(error, ModuleNotFoundError):
        mend = f"install it for {sys.executable}, or correct the name"
    return Problem(message, lines[-1] if lines else None, mend=mend)


def main(context: str, result: str, backends: str = "null") -> None:
    """Load a context file and write what is in it to the JSON file `result`.

    `backends` is a JSON object of the names that variables may give, as `Graph` takes it.
    """
    from ctxlib.advice import advice
    from ctxlib.graph import Graph

    path, target = Path(context).absolute(), Path(result).absolute()
    answer: dict[str, object]
    try:
        if path.parent.is_dir():
            os.chdir(path.parent)  # as where it runs: files named in it are beside it
        graph = Graph(load(path), json.loads(backends))
    except ContextError as error:
        broken = [problem.to_json() for problem in error.problems]
        answer = {"broken": broken, "files": files_read()}
    else:
        problems = [*graph.problems, *advice(graph.context)]
        problems.sort(key=lambda problem: problem.line or 0)
        answer = {
            "problems": [problem.to_json() for problem in problems],
            "variables": graph.describe(),
            "parameters": graph.describe_parameters(),
            "files": graph.context.files,
        }
    target.write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
