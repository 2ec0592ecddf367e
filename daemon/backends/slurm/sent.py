"""What is known of a batch on its way."""

from dataclasses import dataclass, field

from daemon.backends.slurm.batches import Batch

Key = tuple[str, int]
"""A batch and the place in it."""


@dataclass
class Sent:
    """A batch on its way: `busy` are the places in it where Slurm may still be at work.

    `given_up` are those of which nothing shall come any more, `ended` tells of others since when
    their journals have an end. `asked_at` is when it was found out that a submission has no answer,
    `sent_at` when it was known to be in Slurm's queue; `begun` tells that one of its jobs has
    started.
    """

    batch: Batch
    busy: set[int] = field(default_factory=set)
    given_up: set[int] = field(default_factory=set)
    ended: dict[int, float] = field(default_factory=dict)
    asked_at: float | None = None
    sent_at: float | None = None
    begun: bool = False
