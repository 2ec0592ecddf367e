"""A Python prompt where an error came from, for those who look for its cause."""

import importlib
import traceback
from pathlib import Path
from types import FrameType, ModuleType

import click

OURS = tuple(f"{Path(__file__).parents[2] / room}/" for room in ("daemon", "ctxlib"))
"""The folders whose functions are ours."""


def look_into(error: Exception) -> None:
    """Show what `error` came from and open a prompt there, until it is left.

    What a person typed wrongly and what ends a command as it should are no errors to look into.
    """
    if isinstance(error, (click.UsageError, click.exceptions.Exit, click.exceptions.Abort)):
        return
    cause = _root(error)
    frame, line = _deepest(cause)
    traceback.print_exception(cause)
    code = frame.f_code
    click.echo(
        f"In {code.co_qualname} ({code.co_filename}:{line}), with its variables; Ctrl-D leaves",
        err=True,
    )
    _prompt({**frame.f_globals, **frame.f_locals})


def _root(error: BaseException) -> BaseException:
    """What was raised first: messages for people are made of other exceptions.

    A cause that was never raised, only named, has no frame to look into.
    """
    while error.__cause__ is not None and error.__cause__.__traceback__ is not None:
        error = error.__cause__
    return error


def _deepest(error: BaseException) -> tuple[FrameType, int]:
    """The deepest frame of ours in which `error` was, and its line; any, if it was in none."""
    frames = list(traceback.walk_tb(error.__traceback__))
    ours = [each for each in frames if each[0].f_code.co_filename.startswith(OURS)]
    return (ours or frames)[-1]


def _prompt(variables: dict[str, object]) -> None:
    ipython = _ipython()
    if ipython is not None:
        ipython.start_ipython(argv=["--no-banner"], user_ns=variables)
        return
    import code

    code.interact(banner="", local=variables, exitmsg="")


def _ipython() -> ModuleType | None:
    try:
        return importlib.import_module("IPython")
    except ImportError:
        return None
