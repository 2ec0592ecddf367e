"""One look at all jobs of ours that Slurm knows, and what it says of one attempt."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from daemon.backends.slurm.scheduler import SlurmJob
from daemon.backends.slurm.sent import Key, Sent
from daemon.backends.slurm.states import verdict


@dataclass(frozen=True)
class Snapshot:
    """What Slurm's list said when it was asked for, at `asked_at`; `claimed` are the attempts that
    had been claimed by then."""

    jobs: dict[Key, list[SlurmJob]]
    asked_at: float
    claimed: Collection[Key]

    @classmethod
    def of(cls, jobs: Iterable[SlurmJob], asked_at: float, claimed: Collection[Key]) -> "Snapshot":
        """Sort the list by attempts."""
        found: dict[Key, list[SlurmJob]] = {}
        for job in jobs:
            found.setdefault((job.batch, job.index), []).append(job)
        return cls(found, asked_at, claimed)

    def job(self, key: Key) -> SlurmJob | None:
        """The job of an attempt; of two, as it was submitted twice, the one that is not over."""
        jobs = self.jobs.get(key, [])
        return next((job for job in jobs if is_active(job)), jobs[-1] if jobs else None)

    def is_after(self, sent_at: float | None) -> bool:
        """Whether what was known to be submitted at `sent_at` has to be in the list."""
        return sent_at is not None and sent_at < self.asked_at

    def count(self, sent: Sent) -> None:
        """Take note of which places of a batch are free again, and whether it has begun."""
        sent.busy = set()
        for (id_, index), jobs in self.jobs.items():
            if id_ == sent.batch.id:
                sent.begun = sent.begun or any(_has_begun(job) for job in jobs)
                if any(map(is_active, jobs)):
                    sent.busy.add(index)


def is_active(job: SlurmJob) -> bool:
    """Whether Slurm is at it, or will be."""
    return verdict(job, claimed=False).kind in ("waiting", "running")


def _has_begun(job: SlurmJob) -> bool:
    return verdict(job, claimed=False).kind != "waiting"
