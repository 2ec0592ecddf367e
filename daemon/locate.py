"""Where the data of the proposal are that a database folder belongs to."""

from itertools import pairwise
from pathlib import Path

from ctxlib.places import proposals_named


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
            if parent.name == f"p{proposal:06d}":
                return parent
    for below, parent in pairwise(parents):
        if below.name == "usr" and ((parent / "raw").is_dir() or (parent / "proc").is_dir()):
            return parent
    if proposal is not None:
        return next(proposals_named(proposal), None)
    return None
