"""The states of a job, and who may take it from which to which. Pure.

Every report carries the number of the attempt it is about; what an old attempt says is refused.
"""

from enum import StrEnum


class State(StrEnum):
    """Where a job stands."""

    LAUNCHING = "launching"  # being made; not yet for anyone to take
    QUEUED = "queued"  # waits for its turn
    DISPATCHED = "dispatched"  # handed to a manager, not yet seen at work
    RUNNING = "running"  # its attempt is claimed
    STOP_REQUESTED = "stop_requested"  # told to stop, not yet seen to have done so
    STOPPED = "stopped"  # stopped because it was asked to
    FINISHED = "finished"  # went through all its variables, whatever became of each
    FAILED = "failed"  # ended as a whole before that
    CANCELED = "canceled"  # taken back before it ran


class Who(StrEnum):
    """Who asks for a change."""

    SERVER = "server"  # the daemon, for itself or for a user
    CLAIM = "claim"  # the scheduler that takes a job up
    OWNER = "owner"  # the attempt that runs the job
    LEASE = "lease"  # nobody: the attempt was lost or could not be started
    OPS = "ops"  # an operator


TERMINAL = frozenset({State.STOPPED, State.FINISHED, State.FAILED, State.CANCELED})
ACTIVE = frozenset({State.DISPATCHED, State.RUNNING, State.STOP_REQUESTED})

TRANSITIONS: dict[tuple[State, State], frozenset[Who]] = {
    (State.LAUNCHING, State.QUEUED): frozenset({Who.SERVER}),
    (State.QUEUED, State.DISPATCHED): frozenset({Who.CLAIM}),
    (State.QUEUED, State.CANCELED): frozenset({Who.SERVER, Who.OPS}),
    (State.QUEUED, State.FAILED): frozenset({Who.OPS}),
    (State.DISPATCHED, State.RUNNING): frozenset({Who.OWNER}),
    (State.DISPATCHED, State.FAILED): frozenset({Who.OWNER, Who.LEASE, Who.OPS}),
    (State.DISPATCHED, State.QUEUED): frozenset({Who.LEASE}),
    (State.DISPATCHED, State.STOP_REQUESTED): frozenset({Who.SERVER, Who.OPS}),
    (State.DISPATCHED, State.CANCELED): frozenset({Who.SERVER, Who.OPS}),
    (State.RUNNING, State.FINISHED): frozenset({Who.OWNER}),
    (State.RUNNING, State.FAILED): frozenset({Who.OWNER, Who.LEASE, Who.OPS}),
    (State.RUNNING, State.QUEUED): frozenset({Who.LEASE}),
    (State.RUNNING, State.STOP_REQUESTED): frozenset({Who.SERVER, Who.OPS}),
    (State.STOP_REQUESTED, State.STOPPED): frozenset({Who.OWNER}),
    (State.STOP_REQUESTED, State.FINISHED): frozenset({Who.OWNER}),
    (State.STOP_REQUESTED, State.FAILED): frozenset({Who.OWNER, Who.LEASE, Who.OPS}),
    **{(ended, State.QUEUED): frozenset({Who.OPS}) for ended in TERMINAL},
}
"""Who may do what. All else is refused.

An attempt that has ended has ended for ever: an operator queues its job for another one.
"""


class Refused(ValueError):
    """A change that is not allowed; str() says which and why."""


class OldAttempt(Refused):
    """A report of an attempt that is not the job's present one."""


def next_state(current: State, to: State, who: Who) -> State:
    """The state after `who` asked a job in state `current` for `to`; raises Refused.

    The state that it has already is granted, so that a report may be repeated. An owner that
    reports `running` when it has been told to stop learns of that by the answer.
    """
    if current is to:
        return current
    if (current, to, who) == (State.STOP_REQUESTED, State.RUNNING, Who.OWNER):
        return current
    allowed = TRANSITIONS.get((current, to))
    if allowed is None:
        raise Refused(f"a job that is {current} cannot become {to}")
    if who not in allowed:
        raise Refused(f"{who} cannot make a job that is {current} {to}")
    return to


def check_attempt(present: int, reported: int) -> None:
    """Raise OldAttempt unless the report is about the job's present attempt."""
    if present != reported:
        raise OldAttempt(f"a report of attempt {reported}; the present one is attempt {present}")
