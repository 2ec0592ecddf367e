"""Where things are at a facility: proposals below the data root, and the database of each."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator
from pathlib import Path
from typing import SupportsIndex

DATA_ROOT = "/gpfs/exfel/exp"
"""Where EuXFEL keeps proposals: <instrument>/<cycle>/p<number>; else EXTRA_DATA_DATA_ROOT."""

DATABASE_IN_PROPOSAL = Path("usr/Shared/amore")

SUBMITTED = "submitted"
"""The folder in a database's folder where whole jobs are put for its daemon to take in."""


class NotFoundError(Exception):
    """A folder or proposal that a person named is not there."""


def data_root() -> Path:
    """The folder that holds all proposals, from EXTRA_DATA_DATA_ROOT as `extra_data` reads it."""
    return Path(os.environ.get("EXTRA_DATA_DATA_ROOT", DATA_ROOT))


def proposals_named(number: int) -> Iterator[Path]:
    """The folders of proposal `number`; there is at most one, as a rule."""
    name = f"p{number:06d}"
    yield from (path for path in sorted(data_root().glob(f"*/*/{name}")) if path.is_dir())


def find_proposal(number: int) -> Path:
    """The folder of proposal `number` below the data root.

    Raises NotFoundError, naming where was looked, when there is none.
    """
    for path in proposals_named(number):
        return path
    raise NotFoundError(
        f"proposal {number} was not found as {data_root()}/*/*/p{number:06d}; "
        "give the folder itself, or set EXTRA_DATA_DATA_ROOT"
    )


def find_folder(place: SupportsIndex | str | os.PathLike[str] | None) -> Path:
    """The database folder that `place` names: a folder, or a proposal's number; None means here.

    A folder whose name is a number wins over a proposal, unless `place` is no text but a number.
    The folder need not exist. Raises NotFoundError for a proposal that is not found.
    """
    if place is None:
        return Path.cwd()
    if isinstance(place, SupportsIndex):
        return find_proposal(operator.index(place)) / DATABASE_IN_PROPOSAL
    path = Path(place).expanduser()
    digits = str(place).removeprefix("p")
    if not path.exists() and digits.isdecimal():
        return find_proposal(int(digits)) / DATABASE_IN_PROPOSAL
    return path.absolute()
