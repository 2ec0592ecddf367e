"""What Slurm's list means for an attempt without an end in its journal."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ctxlib import claim
from ctxlib.journal import file_name
from daemon.backends.slurm.patience import Patience
from daemon.backends.slurm.scheduler import Scheduler, SlurmError, SlurmJob
from daemon.backends.slurm.sent import Key, Sent
from daemon.backends.slurm.snapshot import Snapshot, is_active
from daemon.backends.slurm.states import Verdict, place, verdict

CANCELLED_EARLY = "somebody cancelled it in Slurm, or it failed there, before it had begun"
"""Slurm keeps no record of such a job, while it still has others of its array."""


@dataclass
class Attempt:
    """What is remembered of an attempt whose journal has no end. Times are of the clock.

    `key` is its place, once it is in a batch, `number` its job's own number in Slurm, `place` what
    people call it there. `over_since`
    is since when Slurm says that it is over, `stop_since` since when its end is wished for,
    `missing_since` since when Slurm knows nothing of it and its journal stays as it was `written`.
    """

    key: Key | None = None
    claimed: bool = False
    number: str | None = None
    over_since: float | None = None
    stop_since: float | None = None
    missing_since: float | None = None
    written: int | None = None
    place: str = ""


class Judge:
    """Finds out how attempts are that are in Slurm's queue, or should be."""

    def __init__(
        self, scheduler: Scheduler, patience: Patience, clock: Callable[[], float]
    ) -> None:
        """`scheduler` is asked for the record of what has ended."""
        self._scheduler = scheduler
        self._patience = patience
        self._clock = clock

    async def verdict(
        self, path: Path, attempt: Attempt, sent: Sent, snapshot: Snapshot
    ) -> Verdict:
        """How the attempt in the folder `path`, one of the batch `sent`, is."""
        assert attempt.key is not None, f"{path} is in no batch"
        job = snapshot.job(attempt.key)
        if job is None:
            return await self._missing(path, attempt, sent, snapshot)
        attempt.missing_since, attempt.number = None, job.number
        attempt.place = place(job)
        found = verdict(job, claimed=attempt.key in snapshot.claimed)
        if found.kind in ("waiting", "running"):
            attempt.over_since = None
            return found
        return await self._over(path, attempt, sent, job, found)

    async def _missing(
        self, path: Path, attempt: Attempt, sent: Sent, snapshot: Snapshot
    ) -> Verdict:
        """Slurm's list has nothing of it: its record may tell, or it has vanished."""
        job = await self._record(path, attempt, sent)
        if job is not None and not is_active(job):
            return await self._over(path, attempt, sent, job, verdict(job, claimed=attempt.claimed))
        now, written = self._clock(), await asyncio.to_thread(_written, path)
        if attempt.missing_since is None or written != attempt.written:
            attempt.missing_since, attempt.written = now, written
        for_long = now - attempt.missing_since
        if (
            not attempt.claimed
            and snapshot.knows(sent.batch.id)
            and for_long >= self._patience.visible
        ):
            return Verdict("failed", CANCELLED_EARLY, "signal")
        if job is not None or for_long < self._patience.vanished:
            return Verdict("running", "Slurm has it not in its list")
        begun = await asyncio.to_thread(claim.exists, path)
        words = f"vanished: Slurm knows nothing of its job {sent.batch.array}"
        return Verdict("failed" if begun else "lost", words, "signal")

    async def _over(
        self, path: Path, attempt: Attempt, sent: Sent, job: SlurmJob, found: Verdict
    ) -> Verdict:
        """Slurm says that it is over; its journal may only be late."""
        now = self._clock()
        if attempt.over_since is None:
            attempt.over_since = now
        # Where its node is gone nothing more will come.
        gone = found.kind == "lost" and found.code is None and job.state != "FAILED"
        if not gone and now - attempt.over_since < self._patience.visible:
            return Verdict(
                "running", f"has ended in Slurm ({job.state}), its last words are waited for"
            )
        if job.exit_code is None and found.kind == "failed":
            recorded = await self._record(path, attempt, sent)
            if recorded is not None and not is_active(recorded):
                found = verdict(recorded, claimed=attempt.claimed)
        return replace(found, kind="failed") if found.kind == "done" else found

    async def _record(self, path: Path, attempt: Attempt, sent: Sent) -> SlurmJob | None:
        if attempt.key is None or sent.batch.array is None:
            return None
        made = await asyncio.to_thread(claim.read, path)
        begun, array = (None if made is None else made.time), sent.batch.array
        batch, index = attempt.key
        with suppress(SlurmError):
            return await self._scheduler.ended(batch, array, index, attempt.number, begun)
        return None


def _written(attempt_dir: Path) -> int | None:
    """When whoever watches the attempt has last written something, in ns of whatever clock."""
    try:
        return (attempt_dir / file_name(0)).stat().st_mtime_ns
    except OSError:
        return None
