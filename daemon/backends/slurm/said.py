"""What Slurm's own words for what went wrong mean, from its programs and from its service."""

import re

from daemon.backends.slurm.scheduler import Later, NoAnswer, Refused, SlurmError, TooLong

# The controller, not the request, is the trouble.
_AWAY = re.compile(
    "unable to contact slurm|timed out|connection refused|connection failure|standby|zero bytes|"
    "transport endpoint|unexpected message|temporarily unable|connection reset|not responding|"
    "no route to host|could not (establish|resolve)|munge|name or service not known",
    re.IGNORECASE,
)
_LATER = re.compile(
    "submit.*limit|jobs? limit|limit.*(reached|exceeded)|accounting/qos policy|"
    # What it was to wait for has just ended, and been forgotten.
    "resource temporarily|too many|exhausted|dependency problem",
    re.IGNORECASE,
)
_TOO_LONG = re.compile("invalid job array specification", re.IGNORECASE)
_GONE = re.compile("invalid job id|already completed|already completing", re.IGNORECASE)


def is_away(said: str) -> bool:
    """Whether nobody has decided anything: the controller was not there, or has not understood."""
    return _AWAY.search(said) is not None


def is_gone(said: str) -> bool:
    """Whether the job that was asked for has ended, or is not known any more."""
    return _GONE.search(said) is not None


def refusal(said: str) -> SlurmError:
    """What it means that a submission was answered with `said`."""
    if is_away(said):
        return NoAnswer(said)
    if _TOO_LONG.search(said):
        return TooLong(said)
    return Later(said) if _LATER.search(said) else Refused(said)
