"""When is a run folder complete? Pure: fingerprints and times come in, verdicts go out.

A fingerprint is an opaque text that differs whenever the folder does; None says that there are no
files. The settler reads nothing itself, so it can be driven by any clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

RunKey = tuple[str, int]
"""(data, run), such as ("raw", 42)."""

EMPTY_SECONDS = 5.0
"""A folder may stay without files for so long before it counts as empty, however short settling is:
programs make a folder first and then copy into it."""


class Verdict(Enum):
    """What an observation of a folder says."""

    CHANGING = auto()  # look again
    SETTLED = auto()  # complete, and not as in the last event: store an event, then say `stored`
    KNOWN = auto()  # as in the last event: nothing to do until something happens again
    EMPTY = auto()  # without files for a while: nothing to do until something happens again


@dataclass(frozen=True)
class _Watched:
    fingerprint: str | None
    since: float


class Settler:
    """Follows the run folders in which something happens until they are still."""

    def __init__(self, last: Mapping[RunKey, str]) -> None:
        """`last` has the fingerprint of the last event of each run."""
        self._last = dict(last)
        self._watched: dict[RunKey, _Watched | None] = {}
        self._completed: set[RunKey] = set()

    @property
    def watched(self) -> list[RunKey]:
        """The runs to observe again, in the order in which something happened to them."""
        return list(self._watched)

    def touch(self, run: RunKey) -> None:
        """Something happened to `run`."""
        self._watched.setdefault(run, None)

    def compare(self, run: RunKey, fingerprint: str | None) -> None:
        """A scan came across `run`: watch it unless it is as in its last event."""
        if fingerprint is None or fingerprint != self._last.get(run):
            self.touch(run)

    def observe(
        self,
        run: RunKey,
        fingerprint: str | None,
        now: float,
        settle_seconds: float,
        complete: bool = False,
    ) -> Verdict:
        """Judge what was seen of `run` at time `now` (seconds of any steady clock).

        `complete` says that its marker file is there: that settles it once, at once; when it
        grows nevertheless it has to be still again, as without a marker.
        """
        before = self._watched.get(run)
        if not complete:
            self._completed.discard(run)
        if fingerprint is not None and fingerprint == self._last.get(run):
            self._watched.pop(run, None)
            return Verdict.KNOWN
        if before is None or before.fingerprint != fingerprint:
            before = self._watched[run] = _Watched(fingerprint, now)
        still = now - before.since
        if fingerprint is None:
            if still < max(settle_seconds, EMPTY_SECONDS):
                return Verdict.CHANGING
            del self._watched[run]
            return Verdict.EMPTY
        if still >= settle_seconds or (complete and run not in self._completed):
            return Verdict.SETTLED
        return Verdict.CHANGING

    def stored(self, run: RunKey, fingerprint: str, complete: bool = False) -> None:
        """The event for `run` with this fingerprint is on disk."""
        self._last[run] = fingerprint
        self._watched.pop(run, None)
        if complete:
            self._completed.add(run)
