"""Batches on disk: which attempts one array of Slurm's has, and whether it was submitted.

A batch is `<folder>/jobs/.batches/<id>.json`; the index of a job in the array is its attempt's
place in there. Each attempt has a file that names its batch, so that its folder is all that is
needed to go on after a restart.
"""

import json
import os
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

MARK = "slurm.json"
"""The file of an attempt that says which batch it is in, and where."""
MOST = 1000
"""Jobs of one array, unless the cluster takes fewer."""

_LONG_AGO = 60 * 86400.0
_ID = re.compile(r"[0-9a-f]{12}")


@dataclass
class Batch:
    """Attempts that are submitted together, as `<job>/<attempt>`.

    `asked` says that it may have been submitted; `array` is Slurm's number once it is known;
    `after` are the numbers of the arrays that it waits for.
    """

    id: str
    attempts: list[str]
    asked: bool = False
    array: str | None = None
    after: list[str] = field(default_factory=list)

    def save(self, jobs: Path) -> None:
        """Write it below the folder `jobs`; a crash leaves the file as it was, or as it is now."""
        _write(jobs / ".batches" / f"{self.id}.json", asdict(self), sync=True)

    def attempt_dirs(self, jobs: Path) -> list[Path]:
        """The folders of its attempts."""
        return [jobs / attempt for attempt in self.attempts]

    def place_of(self, attempt_dir: Path) -> int:
        """The index of an attempt in the array."""
        return self.attempts.index(f"{attempt_dir.parent.name}/{attempt_dir.name}")

    def remove(self, jobs: Path) -> None:
        """Remove its files; its attempts stay."""
        for suffix in (".json", ".env", ".out"):
            (jobs / ".batches" / f"{self.id}{suffix}").unlink(missing_ok=True)


def make(jobs: Path, attempt_dirs: Sequence[Path]) -> Batch:
    """Put attempts into a new batch; those whose folder is gone are left out. Raises OSError."""
    there = [folder for folder in attempt_dirs if folder.is_dir()]
    batch = Batch(secrets.token_hex(6), [f"{a.parent.name}/{a.name}" for a in there])
    (jobs / ".batches").mkdir(exist_ok=True)
    batch.save(jobs)
    for attempt_dir in there:
        _write(attempt_dir / MARK, {"batch": batch.id}, sync=False)
    return batch


def batch_of(attempt_dir: Path) -> str | None:
    """The id of the batch that an attempt was put into; None when it is in none yet."""
    try:
        found = json.loads((attempt_dir / MARK).read_bytes())["batch"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) and _ID.fullmatch(found) else None


def load(jobs: Path, id_: str) -> Batch | None:
    """The batch `id_`; None when its file is gone or cannot be read."""
    try:
        return Batch(**json.loads((jobs / ".batches" / f"{id_}.json").read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def sweep(jobs: Path, now: float) -> None:
    """Remove the files of batches that nobody has asked about for long; `now` is a Unix time."""
    for path in (jobs / ".batches").glob("*"):
        with suppress(FileNotFoundError):  # somebody else is at it
            if now - path.stat().st_mtime > _LONG_AGO:
                path.unlink()


def _write(path: Path, content: object, *, sync: bool) -> None:
    new = path.with_name(f".{path.name}.{os.getpid()}")
    with new.open("w") as file:
        json.dump(content, file)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    new.replace(path)
