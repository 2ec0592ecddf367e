"""Batches on disk: which attempts one array of Slurm's has, and whether it was submitted.

A batch is `<folder>/jobs/.batches/<id>.json`; the index of a job in the array is its attempt's
place in there. Each attempt has a file that names its batch, so that its folder is all that is
needed to go on after a restart.
"""

import json
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ctxlib.job_folder import REQUEST
from ctxlib.whole_file import write_whole
from daemon.backends.attempts import look

MARK = "slurm.json"
"""The file of an attempt that says which batch it is in, and where."""
MOST = 1000
"""Jobs of one array, unless the cluster takes fewer."""

_LONG_AGO = 60 * 86400.0
_ID = re.compile(r"[0-9a-f]{12}")


@dataclass
class Batch:
    """Attempts that are submitted together, as `<job>/<attempt>`.

    `live` says that they are of runs that have just arrived; `asked` that it may have been
    submitted; `array` is Slurm's number once it is known.
    """

    id: str
    attempts: list[str]
    live: bool = False
    asked: bool = False
    array: str | None = None

    def save(self, jobs: Path) -> None:
        """Write it below the folder `jobs`; a crash leaves the file as it was, or as it is now."""
        content = json.dumps(asdict(self)).encode()
        write_whole(jobs / ".batches" / f"{self.id}.json", content, durable=True)

    def attempt_dirs(self, jobs: Path) -> list[Path]:
        """The folders of its attempts."""
        return [jobs / attempt for attempt in self.attempts]

    def wanted(self, jobs: Path) -> list[int]:
        """The places of the attempts of which something is still to come."""
        seen = enumerate(map(look, self.attempt_dirs(jobs)))
        return [n for n, its in seen if its.there and not its.revoked and its.ended is None]

    def place_of(self, attempt_dir: Path) -> int:
        """The index of an attempt in the array."""
        return self.attempts.index(f"{attempt_dir.parent.name}/{attempt_dir.name}")

    def remove(self, jobs: Path) -> None:
        """Remove its files; its attempts stay."""
        for suffix in (".json", ".env", ".out"):
            (jobs / ".batches" / f"{self.id}{suffix}").unlink(missing_ok=True)


def make(jobs: Path, attempt_dirs: Sequence[Path], *, live: bool) -> Batch:
    """Put attempts into a new batch; those whose folder is gone are left out. Raises OSError."""
    there = [folder for folder in attempt_dirs if folder.is_dir()]
    batch = Batch(secrets.token_hex(6), [f"{a.parent.name}/{a.name}" for a in there], live)
    (jobs / ".batches").mkdir(exist_ok=True)
    batch.save(jobs)
    for attempt_dir in there:
        write_whole(attempt_dir / MARK, json.dumps({"batch": batch.id}).encode())
    return batch


def array_of(places: Sequence[int], at_once: int) -> str:
    """The array of a batch's `places`, in order, as sbatch takes it: `0-4,7%15`."""
    ranges: list[list[int]] = []
    for place in places:
        if ranges and place == ranges[-1][1] + 1:
            ranges[-1][1] = place
        else:
            ranges.append([place, place])
    words = (f"{first}-{last}" if last > first else f"{first}" for first, last in ranges)
    return f"{','.join(words)}%{min(at_once, len(places))}"


def is_live(attempt_dir: Path) -> bool:
    """Whether an attempt is for a run that has just arrived, as its job's request says."""
    try:
        return bool(json.loads((attempt_dir.parent / REQUEST).read_bytes()).get("live"))
    except (OSError, ValueError, AttributeError):
        return False  # the job itself will say what is wrong with its request


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
        values = json.loads((jobs / ".batches" / f"{id_}.json").read_bytes())
        # Those of an earlier version say more, or less.
        return Batch(
            **{each.name: values[each.name] for each in fields(Batch) if each.name in values}
        )
    except (FileNotFoundError, ValueError, TypeError):
        return None


def sweep(jobs: Path, now: float) -> None:
    """Remove the files of batches that nobody has asked about for long; `now` is a Unix time."""
    for path in (jobs / ".batches").glob("*"):
        with suppress(FileNotFoundError):  # somebody else is at it
            if now - path.stat().st_mtime > _LONG_AGO:
                path.unlink()
