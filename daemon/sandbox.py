"""The command in which a context file's Python runs (`sandbox_args`), as bubblewrap's `bwrap`."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

DATABASE = "{database}"
"""Stands in the command for the database's folder, which context files must be able to write."""

FROM_LISTENER = "RUNTABLE_SANDBOX_ARGS"
"""The environment variable in which a listener gives its databases' daemons its own setting."""


def checked(text: str) -> str:
    """Return `text`; raises ValueError when a shell could not split it, or it names no program."""
    if not shlex.split(text):
        raise ValueError("is empty")
    return text


def command(
    setting: str | None, folder: Path, environment: Mapping[str, str] = os.environ
) -> tuple[str, ...]:
    """The words to put before an interpreter that works for the database in `folder`.

    A listener's setting goes before the database's own; without either there are none.
    """
    text = environment.get(FROM_LISTENER) or setting
    return tuple(word.replace(DATABASE, str(folder)) for word in shlex.split(text or ""))


def failure(program: Sequence[str], error: OSError) -> tuple[str, str] | None:
    """(what is wrong, what mends it) when the sandbox's own program could not be started."""
    if not program or error.filename != program[0]:
        return None
    return (
        f"sandbox_args: {program[0]} cannot be started: {error.strerror}",
        "install it on this machine, or correct sandbox_args with db-config",
    )
