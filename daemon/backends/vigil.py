"""Waits for signs of life, and says for how long there have been none.

Nobody's clock is compared with another's: what counts is for how long the same sign has been seen
here, by a monotonic clock. A clock that steps changes nothing.
"""

import time
from collections.abc import Callable

LONGEST_STEP = 5.0
"""Seconds that one look adds at most: whoever slept between two looks has seen nobody be silent."""


class Vigil:
    """The silence of one attempt, or of one host."""

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
