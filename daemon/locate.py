"""Where the data of the proposal are that a database folder belongs to."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ctxlib.places import proposals_named

LOOK_SECONDS = 5.0
"""How often to look for a proposal's folder that was not there."""


@dataclass(frozen=True)
class _Look:
    """Where was what was asked for, and until when that counts if it was nowhere."""

    asked: tuple[int | None, str | None]
    path: Path | None
    until: float


class ProposalFolder:
    """The proposal's folder, looked for again when it is another one's, or was not there."""

    def __init__(
        self,
        folder: Path,
        asked: Callable[[], tuple[int | None, str | None]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`folder` is the database's; `asked` gives the settings proposal and proposal_path."""
        self._folder = folder
        self._asked = asked
        self._clock = clock
        self._last: _Look | None = None
        self._others: dict[int, Path] = {}

    def path(self, proposal: int | None = None) -> Path | None:
        """The folder with raw/ and proc/; None when it is not known, or not there yet.

        That of another proposal than the database's is beside it, or below the data root. This may
        look through a whole data root, so call it in a thread.
        """
        if proposal is not None and proposal != self._asked()[0]:
            return self._other(proposal)
        now, asked, last = self._clock(), self._asked(), self._last
        if last is None or last.asked != asked or (last.path is None and now >= last.until):
            path = proposal_path(self._folder, *asked)
            self._last = last = _Look(asked, path, now + LOOK_SECONDS)
        return last.path

    def _other(self, proposal: int) -> Path | None:
        found = self._others.get(proposal)
        if found is None:
            own = self.path()
            beside = own.parent / proposal_name(proposal) if own is not None else None
            if beside is not None and beside.is_dir():
                found = beside
            else:
                found = next(proposals_named(proposal), None)
            if found is not None:
                self._others[proposal] = found
        return found


def proposal_name(proposal: int) -> str:
    """What a proposal's folder is called."""
    return f"p{proposal:06d}"


def proposal_path(folder: Path, proposal: int | None, configured: str | None) -> Path | None:
    """The proposal's root (the folder with raw/ and proc/) for a database in `folder`.

    The setting wins; else the nearest parent named like the proposal or holding raw/ or proc/ next
    to the `usr/` that the folder is in; else the proposal below the data root; else None.
    """
    if configured:
        return Path(configured)
    parents = [folder, *folder.parents]
    if proposal is not None:
        for parent in parents:
            if parent.name == proposal_name(proposal):
                return parent
    for below, parent in pairwise(parents):
        if below.name == "usr" and ((parent / "raw").is_dir() or (parent / "proc").is_dir()):
            return parent
    if proposal is not None:
        return next(proposals_named(proposal), None)
    return None
