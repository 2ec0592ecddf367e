"""What a runner tells in its journal, and how it ends where it cannot go on telling."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from ctxlib import output
from ctxlib.journal import JournalWriter

# By names of our own: a variable may put something else in place of those in the module.
_exit, _getpid = os._exit, os.getpid

EXIT_JOURNAL = 74
"""What a runner exits with when it cannot write its journal any more (EX_IOERR)."""

EXIT_CLOSED = 75
"""What a runner exits with after a variable that has closed the process's own files."""

EXIT_SPOILT = 76
"""What a runner exits with when a variable has made its process useless for others."""


@dataclass
class Telling:
    """The journal of the runner that is this process; a forked child of it has nothing to tell."""

    path: Path
    wake: Callable[[], None] | None = None
    _pid: int = field(default_factory=_getpid, init=False)

    def __post_init__(self) -> None:
        """Open the journal."""
        self._journal = JournalWriter(self.path, self.wake)

    def write(self, kind: str, **fields: object) -> None:
        """Append a line; where that cannot be, this process ends."""
        self.leave_if_forked()
        try:
            self._journal.write(kind, **fields)
        except OSError as error:
            # Going on would mean to compute what nobody can learn of.
            self.leave(f"the journal cannot be written ({error})", EXIT_JOURNAL)

    def try_to_write(self, kind: str, **fields: object) -> bool:
        """Append a line that can wait, if that can be; say whether it could."""
        try:
            self._journal.write(kind, **fields)
        except OSError:
            return False
        return True

    def leave_if_forked(self) -> None:
        """End this process if a variable has forked it and come back; one does the job."""
        if _getpid() != self._pid:
            _exit(0)

    def leave_if_closed(self) -> None:
        """End this process if a variable has closed the journal, and with it who knows what.

        Files that libraries hold open are then not what they believe: the next file that is opened
        gets the number of a closed one.
        """
        if self._journal.reopened:
            self.leave("a variable has closed this process's own files", EXIT_CLOSED)

    def leave(self, why: str, code: int = EXIT_SPOILT) -> NoReturn:
        """End this process, for another to go on, and say why in the log."""
        with contextlib.suppress(Exception):  # whatever is left of what says it
            output.say(f"{why}, so this process ends")
            output.flush()
        _exit(code)
