"""What a variable's function asks for, read from its signature: `energy: "var#xgm_energy"`."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace

from ctxlib import metadata
from ctxlib.errors import Problem, nearest
from ctxlib.parameter import is_name
from ctxlib.positions import DEFINITION

META = ("run_number", "proposal", "proposal_path")
DEPENDENCIES = ("var", "self", "missing")
"""The kinds of arguments that other variables give."""
_FIELDS = {"meta": META, **metadata.FIELDS}
_KINDS = ("var", "self", "param", *_FIELDS)
_WORDS = ", ".join(f"{kind}#" for kind in _KINDS[:-1]) + f" or {_KINDS[-1]}#"
_NONE = inspect.Parameter.empty
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class Argument:
    """One argument besides the run.

    `kind` is "var" (another variable, or several by a glob), "self" (the same in its own group),
    "meta", "param", a catalogue's name ("mymdc"), or "missing" (a member of the group that is None,
    so that the default holds). `target` is what stands behind the `#`, `names` the full names of
    the variables meant, once known.
    """

    name: str
    kind: str
    target: str
    default: object = _NONE
    names: tuple[str, ...] = ()

    @property
    def required(self) -> bool:
        """Whether the function cannot be called without it."""
        return self.default is _NONE

    @property
    def is_glob(self) -> bool:
        """Whether it takes a dictionary of all variables that match."""
        return any(letter in self.target for letter in "*?[")


def parse_arguments(
    func: Callable[..., object], *, method: bool
) -> tuple[tuple[Argument, ...], tuple[Problem, ...]]:
    """Read the arguments of a variable's function, and every problem in them.

    `method`: the function is a group's, its first argument is the instance.
    """
    try:
        parameters = list(inspect.signature(func).parameters.values())
    except (TypeError, ValueError) as error:
        return (), (Problem(f"its arguments cannot be read: {error}"),)
    if method and parameters and parameters[0].kind in _POSITIONAL:
        parameters = parameters[1:]

    problems = []
    if parameters and parameters[0].kind in _POSITIONAL and not _is_ours(parameters[0]):
        parameters = parameters[1:]
    elif not any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        first = "(self, run, ...)" if method else "(run, ...)"
        problems.append(
            Problem(
                "it does not take the run", mend=f"begin its arguments with {first}", at=DEFINITION
            )
        )

    arguments = []
    for parameter in parameters:
        if parameter.kind in _VARIADIC:
            continue
        parsed = _parse(parameter)
        if isinstance(parsed, Argument):
            arguments.append(parsed)
        elif parsed is not None:
            problems.append(replace(parsed, at=parameter.name))
    return tuple(arguments), tuple(problems)


def _is_ours(parameter: inspect.Parameter) -> bool:
    text = annotation_text(parameter.annotation)
    return text is not None and "#" in text


def annotation_text(annotation: object) -> str | None:
    """Give the text of a string annotation, or None.

    `from __future__ import annotations` makes a text of what was a text already: its quotes go.
    """
    if not isinstance(annotation, str):
        return None
    text = annotation.strip()
    if text[:1] in ("'", '"'):
        try:
            inner = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            return text
        if isinstance(inner, str):
            return inner.strip()
    return text


def _parse(parameter: inspect.Parameter) -> Argument | Problem | None:
    """Read one parameter; None when its own default is all that it needs."""
    name, text = parameter.name, annotation_text(parameter.annotation)
    kind, mark, target = (text or "").partition("#")
    kind, target = kind.strip(), target.strip()
    if not mark or not kind.isidentifier():
        if parameter.default is not _NONE:
            return None
        return Problem(
            f"argument {name!r} says nowhere where its value comes from",
            mend=f'annotate it, as in {name}: "var#other_variable", or give it a default',
        )
    message = f"argument {name!r}: {text!r} "
    if kind not in _KINDS:
        mend = nearest(f"{kind}#", [f"{known}#" for known in _KINDS])
        return Problem(message + "is not understood", mend=mend or f"use {_WORDS}")
    if not target:
        return Problem(message + "names nothing behind the #", mend=f"as in {kind}#name")
    if kind in _FIELDS and target not in _FIELDS[kind]:
        mend = nearest(target, _FIELDS[kind]) or "there are " + ", ".join(_FIELDS[kind])
        return Problem(message + "does not exist", mend=mend)
    if kind == "param" and not is_name(target):
        return Problem(message + "is not the name of a parameter", mend="use letters, digits and _")
    if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
        return Problem(
            f"argument {name!r} can only be given by its position",
            mend="take the / out of the arguments",
        )
    return Argument(name, kind, target, parameter.default)
