"""The Python that runs a context file, and the command in which it does (`sandbox_args`).

The command is bubblewrap's `bwrap` or one like it: it is put before every interpreter that runs
code of the context file, with {database} for the database's folder.
"""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

DATABASE = "{database}"
"""Stands in the command for the database's folder, which context files must be able to write."""

FROM_LISTENER = "RUNTABLE_SANDBOX_ARGS"
"""The environment variable in which a listener gives its databases' daemons its own setting."""

LEAVE_PROCESSES = (
    "take what gives processes numbers of their own, as --unshare-pid and --unshare-all do, out of "
    "sandbox_args"
)


def checked(text: str) -> str:
    """Return `text`; raises ValueError when a shell could not split it, or it names no program."""
    if not shlex.split(text):
        raise ValueError("is empty")
    return text


@dataclass(frozen=True)
class Interpreter:
    """A Python, by the path of its program, and the words of the sandbox that go before it."""

    python: str
    sandbox: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        python: str,
        sandbox_args: str | None,
        folder: Path,
        environment: Mapping[str, str] = os.environ,
    ) -> Self:
        """`python` for the database in `folder`, in the sandbox that its setting describes.

        A listener's setting takes the place of the database's own.
        """
        text = environment.get(FROM_LISTENER) or sandbox_args or ""
        return cls(python, tuple(word.replace(DATABASE, str(folder)) for word in shlex.split(text)))

    def command(self, *arguments: str) -> list[str]:
        """What to execute for this Python to run with `arguments`."""
        return [*self.sandbox, self.python, *arguments]

    def signal_of(self, code: int) -> int:
        """The exit code as of the Python itself: a sandbox tells a signal as 128 and its number."""
        return 128 - code if self.sandbox and code > 128 else code

    def not_started(self, error: OSError) -> tuple[str, str]:
        """What is wrong when the command could not be started, and what mends it."""
        program = self.sandbox[0] if self.sandbox else self.python
        if error.filename is not None and str(error.filename) != program:
            return (
                f"{error.filename}: {error.strerror}",
                "restart the daemon, which makes it again",
            )
        if self.sandbox:
            return (
                f"sandbox_args: {self.sandbox[0]} cannot be started: {error.strerror}",
                "install it on this machine, or correct sandbox_args",
            )
        return (
            f"{self.python} cannot be started: {error.strerror}",
            "set context_python to the Python that has the context's packages",
        )
