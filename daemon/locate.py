"""Where things are: the database folder that a person means, and the proposal it belongs to."""

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

DATA_ROOT = "/gpfs/exfel/exp"
"""Where EuXFEL keeps proposals: <instrument>/<cycle>/p<number>; else EXTRA_DATA_DATA_ROOT."""

DATABASE_IN_PROPOSAL = Path("usr/Shared/amore")


class NotFoundError(Exception):
    """A folder or proposal that a person named is not there."""


def data_root() -> Path:
    """The folder that holds all proposals, from EXTRA_DATA_DATA_ROOT as `extra_data` reads it."""
    return Path(os.environ.get("EXTRA_DATA_DATA_ROOT", DATA_ROOT))


def _proposals_named(number: int) -> Iterator[Path]:
    name = f"p{number:06d}"
    yield from (path for path in sorted(data_root().glob(f"*/*/{name}")) if path.is_dir())


def find_proposal(number: int) -> Path:
    """The folder of proposal `number` below the data root.

    Raises NotFoundError, naming where was looked, when there is none.
    """
    for path in _proposals_named(number):
        return path
    raise NotFoundError(
        f"proposal {number} was not found as {data_root()}/*/*/p{number:06d}; "
        "give the folder itself, or set EXTRA_DATA_DATA_ROOT"
    )


def find_folder(text: str | os.PathLike[str] | None) -> Path:
    """The database folder that `text` names: a folder, or a proposal's number; None means here.

    A folder of that name wins over a proposal. The folder need not exist. Raises NotFoundError for
    a proposal that is not found.
    """
    if text is None:
        return Path.cwd()
    path = Path(text).expanduser()
    digits = str(text).removeprefix("p")
    if not path.exists() and digits.isdecimal():
        return find_proposal(int(digits)) / DATABASE_IN_PROPOSAL
    return path.absolute()


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
        return next(_proposals_named(proposal), None)
    return None
