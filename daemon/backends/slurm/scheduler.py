"""What the manager needs of Slurm, whichever way there is to it, and in which words it answers.

A way to Slurm is a `Scheduler`. Programs of Slurm, here or on another machine, are one: `Commands`
over a `Transport`. A REST service is another. What every way has to keep to:

- each call ends within a time limit of its own; no answer in time is `NoAnswer`, and nothing is
  concluded from that;
- `submit` raises `Refused` or `Later` only when Slurm has said that nothing was queued, `NotAsked`
  only when nothing has left us. With another `NoAnswer` it may have been: the manager looks for
  the comment before it submits again;
- `jobs` knows jobs by their comment, never by their number alone: numbers are given out again.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from daemon.backends.configurations.slurm import SlurmCommon

COMMENT = "runtable:"
"""What the comment of every job of ours begins with; the id of its batch follows."""


CLOCKS_SECONDS = 5.0
"""By how much the clocks of a cluster may differ."""


WHOLE = -1
"""The place in an array of what is left of it."""


class SlurmError(Exception):
    """Something that Slurm was asked for was not done; the text is for people."""


class NoAnswer(SlurmError):
    """Slurm has not answered: it may have done what it was asked for."""


class NotAsked(NoAnswer):
    """Slurm was not reached at all: it has done nothing."""


class Refused(SlurmError):
    """Slurm has said no, and will say so again until somebody changes something."""


class Later(SlurmError):
    """Slurm has said no, as there is too much at the moment: ask again later."""


class TooLong(Refused):
    """Slurm takes no array of this length."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """An array of jobs, all with the same script.

    `name` is for people; `comment` names the batch. `array` has the indices of the jobs and how
    many of them run at once, as sbatch takes it: `0-4,7%15`. None runs before all jobs of the
    numbers `after` have ended, however they have. `chdir` is the folder in which they start and to
    which a relative `output` belongs, `error` is where the error output goes unless it goes there
    too. `time_limit` is as sbatch takes it.
    What else there is to set stands in `config`.
    """

    name: str
    comment: str
    script: str
    array: str
    after: Sequence[str]
    chdir: str
    output: str
    error: str | None
    partition: str | None
    reservation: str | None
    time_limit: str
    config: SlurmCommon


@dataclass(frozen=True, kw_only=True)
class SlurmJob:
    """What Slurm knows of one job of an array.

    `array` is the number that `submit` gave, `index` the place in the array, `number` the job's own
    number. `state` is one of Slurm's words, in capitals, without what it may add to it. `exit_code`
    and `signal` are known of a job that has ended, if at all; `by` is the user who cancelled it.
    `node` is where it runs or ran, as far as is told.

    Of jobs that were cancelled before they began some leave nothing in Slurm's list: of the last
    one that waited the array is left, which then has the index WHOLE.
    """

    batch: str
    array: str
    index: int
    number: str
    state: str
    reason: str = ""
    partition: str = ""
    node: str = ""
    exit_code: int | None = None
    signal: int | None = None
    by: str = ""


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A partition. `groups` may use it (None: everybody); `default` is None where nobody tells.

    `longest` is the longest time limit that it allows, in words.
    """

    name: str
    up: bool
    default: bool | None
    groups: Collection[str] | None
    hidden: bool = False
    longest: str = "less"


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node: the partitions that it is in, its cores and megabytes."""

    name: str
    partitions: Collection[str]
    cpus: int
    memory: int


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """A reservation; `start` and `end` are as Slurm writes times, `active` says it is now.

    Its `partition` is None where it names none; `nodes` are as Slurm writes them, n[1-3].
    """

    name: str
    active: bool
    start: str
    end: str
    partition: str | None
    nodes: str


def ran_then(start: object, end: object, begun: float | None) -> bool:
    """Whether what is on record from `start` to `end`, Unix times, is what had `begun`."""
    try:
        first, last = float(str(start)), float(str(end))
    except ValueError:
        return False  # it has never run
    return begun is not None and first - CLOCKS_SECONDS <= begun <= last + CLOCKS_SECONDS


class Scheduler(Protocol):
    """One way to Slurm. Every method may raise NoAnswer."""

    async def submit(self, submission: Submission) -> str:
        """Queue an array and return its number; raises Refused, TooLong or Later."""

    async def jobs(self) -> list[SlurmJob]:
        """All jobs of the user that have our comment, those that ended lately too; one query."""

    async def ended(
        self, batch: str, array: str, index: int, number: str | None, begun: float | None
    ) -> SlurmJob | None:
        """What is on record of one job of ours that has ended; None when there is nothing.

        `number` is its own number where that was ever seen, `begun` the Unix time of its claim. By
        that a record without a comment is told from one of another job with the same number.
        """

    async def cancel(self, jobs: Sequence[tuple[str, int]]) -> None:
        """End jobs, given as the number of the array and the place in it; ended ones are fine."""

    async def partitions(self) -> list[Partition]:
        """The partitions."""

    async def nodes(self) -> list[Node]:
        """The nodes."""

    async def reservations(self) -> list[Reservation]:
        """The reservations that Slurm knows; expired ones may be missing."""

    async def groups(self) -> list[str]:
        """The user's groups there."""

    async def close(self) -> None:
        """Let go of everything; jobs go on."""
