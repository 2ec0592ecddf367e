"""Waits for signs of life of an attempt, and says when there have been none for too long.

Nobody's clock is compared with another's: what counts is for how long the same sign has been seen
here, by a monotonic clock. A clock that steps changes nothing.
"""

import time
from collections.abc import Callable

from daemon.backends import Status
from daemon.settings import Settings

LONGEST_STEP = 5.0
"""Seconds that one look adds at most: whoever slept between two looks has seen nobody be silent."""


class Vigil:
    """The silence of one attempt."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with no sign seen and no silence; `clock` is monotonic, in seconds."""
        self._clock = clock
        self._sign: object = None
        self._looked = clock()
        self._silence = 0.0

    def look(self, sign: object) -> float:
        """Take note of what is seen now; for how many seconds it has been the same."""
        now = self._clock()
        step, self._looked = min(now - self._looked, LONGEST_STEP), now
        self._silence = self._silence + step if sign == self._sign else 0.0
        self._sign = sign
        return self._silence


def too_silent(status: Status, silence: float, settings: Settings) -> str:
    """Why an attempt that was silent for so many seconds counts as lost; empty if it does not.

    One on this host shows that its process hangs; of one elsewhere the host may be gone.
    """
    if status.signs == "here" and silence >= settings.job_status_ttl:
        return (
            f"stale_status: no sign of life for {settings.job_status_ttl} s (setting "
            "job_status_ttl), although its process is there"
        )
    limit = settings.host_heartbeat_ttl + settings.worker_stale_grace_seconds
    if status.signs == "elsewhere" and silence >= limit:
        return (
            f"worker_offline: no sign of life {status.reason} for {limit} s (settings "
            "host_heartbeat_ttl and worker_stale_grace_seconds)"
        )
    return ""
