"""Why a runner ended before it was done: in words, and whether its variable is to blame."""

import os
from dataclasses import dataclass

from ctxlib import processes
from ctxlib.telling import EXIT_CLOSED, EXIT_JOURNAL


@dataclass(frozen=True)
class Ending:
    """Why a runner is being ended, or how it died: code as in the journal, reason in words."""

    code: str
    reason: str
    whole_job: bool = False


def how_it_died(wait_status: int) -> Ending:
    """The ending of a runner that nobody ended, by what waiting for it gave."""
    if os.WIFSIGNALED(wait_status):
        return Ending("signal", processes.words_for_end(wait_status))
    if os.waitstatus_to_exitcode(wait_status) == EXIT_CLOSED:
        return Ending("exit", "its files were closed by a variable")
    return Ending("exit", processes.words_for_end(wait_status))


def blameless(wait_status: int) -> bool:
    """Tell whether the runner's variable need not be to blame: an operator or the kernel is."""
    if os.WIFSIGNALED(wait_status):
        return os.WTERMSIG(wait_status) in processes.FOREIGN_SIGNALS
    return os.waitstatus_to_exitcode(wait_status) == EXIT_JOURNAL
