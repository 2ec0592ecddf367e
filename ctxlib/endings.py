"""Why a runner ended before it was done: in words, and whether its variable is to blame."""

import os
from dataclasses import dataclass

from ctxlib import processes
from ctxlib.telling import EXIT_CLOSED, EXIT_JOURNAL, EXIT_SPOILT

_WORDS = {
    EXIT_CLOSED: "its files were closed by a variable",
    EXIT_JOURNAL: "its journal could not be written",
    EXIT_SPOILT: "its process was made useless by a variable; the log says how",
}


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
    words = _WORDS.get(os.waitstatus_to_exitcode(wait_status))
    return Ending("exit", words or processes.words_for_end(wait_status))


def blameless(wait_status: int) -> bool:
    """Tell whether the runner's variable need not be to blame: an operator or the kernel is."""
    if os.WIFSIGNALED(wait_status):
        return os.WTERMSIG(wait_status) in processes.FOREIGN_SIGNALS
    return os.waitstatus_to_exitcode(wait_status) in (EXIT_JOURNAL, EXIT_SPOILT)
