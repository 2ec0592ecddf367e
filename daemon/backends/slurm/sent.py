"""What is known of a batch on its way."""

from dataclasses import dataclass, field

from daemon.backends.slurm.batches import Batch

Key = tuple[str, int]
"""A batch and the place in it."""


@dataclass
class Sent:
    """A batch on its way: `busy` are the places in it where Slurm may still be at work.

    `asked_at` and `sent_at` are when it was submitted, and when that was known; `begun` tells that
    one of its jobs has started.
    """

    batch: Batch
    busy: set[int] = field(default_factory=set)
    asked_at: float | None = None
    sent_at: float | None = None
    begun: bool = False

    @property
    def holds_back(self) -> bool:
        """Whether it waits for others, as far as is known."""
        return bool(self.batch.after) and not self.begun
