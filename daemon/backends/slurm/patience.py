"""How long the manager for Slurm waits for what."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """How long things may take, in seconds.

    `poll`: between two looks at Slurm's list. `visible`: until the end of a job that Slurm tells of
    shows in its journal, on a network filesystem. `vanished`: that Slurm, answering, knows nothing
    of a job. `stop`: until a job that was asked for its end, or has ended, is cancelled. `retry`:
    between two tries to submit. `settle`: until a submission without an answer shows in Slurm's
    list.
    """

    poll: float = 5.0
    visible: float = 10.0
    vanished: float = 60.0
    stop: float = 15.0
    retry: float = 5.0
    settle: float = 10.0
