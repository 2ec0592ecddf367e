"""One look at all jobs of ours that Slurm knows, and what it says of one attempt."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from daemon.backends.slurm.scheduler import SlurmJob
from daemon.backends.slurm.sent import Key, Sent
from daemon.backends.slurm.states import verdict


@dataclass(frozen=True)
class Snapshot:
    """What Slurm's list said when it was asked for, at `asked_at`; `claimed` are the attempts that
    had been claimed by then."""

    jobs: Mapping[Key, list[SlurmJob]]
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
        """The job of an attempt; of two, as it was submitted twice, the one that tells more.

        That is the one that runs; else one that may still begin, unless it was begun with already.
        """
        order = ("running", "over", "waiting") if key in self.claimed else ("running", "waiting")

        def rank(job: SlurmJob) -> int:
            kind = _kind(job)
            return order.index(kind) if kind in order else len(order)

        return min(self.jobs.get(key, []), key=rank, default=None)

    def knows(self, batch_id: str) -> bool:
        """Whether anything of a batch is in the list."""
        return any(id_ == batch_id for id_, _ in self.jobs)

    def is_after(self, sent_at: float | None) -> bool:
        """Whether what was known to be submitted at `sent_at` has to be in the list."""
        return sent_at is not None and sent_at < self.asked_at

    def count(self, sent: Sent) -> None:
        """Take note of which places of a batch are free again, and whether it has begun."""
        sent.busy = set()
        for (id_, index), jobs in self.jobs.items():
            if id_ == sent.batch.id:
                sent.begun = sent.begun or any(_kind(job) != "waiting" for job in jobs)
                if any(map(is_active, jobs)):
                    sent.busy.add(index)

    def unwanted(self, batches: Mapping[str, Sent]) -> list[SlurmJob]:
        """The jobs of `batches` that nobody wants: of what was given up, and seconds that wait."""
        return [
            job
            for (id_, index), jobs in self.jobs.items()
            if id_ in batches
            for job in filter(is_active, jobs)
            if index in batches[id_].given_up
            or (_kind(job) == "waiting" and job is not self.job((id_, index)))
        ]


def is_active(job: SlurmJob) -> bool:
    """Whether Slurm is at it, or will be."""
    return _kind(job) != "over"


def _kind(job: SlurmJob) -> str:
    kind = verdict(job, claimed=False).kind
    return kind if kind in ("waiting", "running") else "over"
