"""What Slurm's states mean for an attempt, and how each is said to people."""

import signal
from dataclasses import dataclass
from typing import Literal

from ctxlib.alone import CLAIMED
from daemon.backends.slurm.scheduler import SlurmJob

Kind = Literal["waiting", "running", "failed", "lost", "done"]


@dataclass(frozen=True)
class Verdict:
    """What a state means.

    `waiting` and `running`: Slurm is at it. `failed`: nothing more comes of the attempt, and
    another one would end the same way. `lost`: its place was lost through no fault of its own, and
    another attempt may do better. `done`: the program says that it is done, so that there have to
    be results. `code` is the journal's word for how the variable ended that was running.
    """

    kind: Kind
    reason: str
    code: str = "exit"


_WAITING = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED"}
    | {"SPECIAL_EXIT", "RESV_DEL_HOLD"}
)
_RUNNING = frozenset(
    {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "STAGE_OUT", "SIGNALING"}
)
_NO_OUTPUT = 53
"""The signal that Slurm names for a job whose output it could not open."""
_LOST = {
    "NODE_FAIL": "its node failed (NODE_FAIL)",
    "BOOT_FAIL": "its node could not be started (BOOT_FAIL)",
    "PREEMPTED": "it had to make room for another job (PREEMPTED)",
}
_FAILED = {
    "TIMEOUT": Verdict("failed", "Slurm's time limit was over (TIMEOUT)", "timeout"),
    "DEADLINE": Verdict("failed", "Slurm's deadline for it was over (DEADLINE)", "timeout"),
    "OUT_OF_MEMORY": Verdict(
        "failed", "used more memory than Slurm gave it (OUT_OF_MEMORY)", "memory"
    ),
    "REVOKED": Verdict("failed", "another cluster has taken it (REVOKED)"),
}
_MEANINGS = {
    "Priority": "others are before it",
    "Resources": "all nodes are taken",
    "Dependency": "the batch before it has not ended",
    "JobArrayTaskLimit": "as many as may are running",
    "PartitionDown": "its partition is down",
    "PartitionTimeLimit": "its time limit is longer than the partition allows",
    "ReqNodeNotAvail": "the nodes that it needs are not available",
    "Reservation": "its reservation has not begun",
    "JobHeldUser": "somebody holds it back",
    "JobHeldAdmin": "an administrator holds it back",
}


def verdict(job: SlurmJob, *, claimed: bool) -> Verdict:
    """What it means that Slurm says `job` of an attempt.

    `claimed` tells whether somebody had begun with the attempt before Slurm was asked.
    """
    state = job.state
    if state in _WAITING:
        if claimed:
            # Slurm runs jobs again from their beginning, and this one has had its turn.
            return Verdict("lost", "Slurm has put it back into its queue (requeued)")
        return Verdict("waiting", _why_waiting(job.reason))
    if state in _RUNNING:
        return Verdict("running", "" if state == "RUNNING" else f"Slurm says {state}")
    if state in _LOST:
        return Verdict("lost", _LOST[state])
    if state in _FAILED:
        return _FAILED[state]
    if state == "CANCELLED":
        by = f" by user {job.by}" if job.by else ""
        return Verdict("failed", f"somebody cancelled it in Slurm (CANCELLED{by})", "signal")
    if state == "COMPLETED":
        return Verdict("done", "finished on Slurm but delivered no results")
    return _failed(job)


def _why_waiting(reason: str) -> str:
    if not reason:
        return "waits in Slurm"
    meaning = _MEANINGS.get(reason.partition(",")[0].strip("()"))
    return f"waits in Slurm: {meaning} ({reason})" if meaning else f"waits in Slurm: {reason}"


def _failed(job: SlurmJob) -> Verdict:
    """A state FAILED, or one that nobody has heard of."""
    code = job.exit_code
    if code == CLAIMED:
        return Verdict("lost", "Slurm had started it before, on a node that is gone (requeued)")
    number = job.signal or (code - 128 if code is not None and 128 < code < 160 else 0)
    if number == _NO_OUTPUT:
        words = "Slurm could not start it on its node, or open its output there"
        return Verdict("failed", f"{words} (signal {number}, {job.state})", "signal")
    if number:
        names = {known.value: known.name for known in signal.Signals}
        how = f"killed by signal {names.get(number, number)}"
        return Verdict("failed", f"{how} ({job.state})", "signal")
    how = "it failed" if code is None else f"exit code {code}"
    reason = "" if job.reason in ("", "NonZeroExitCode") else f", {job.reason}"
    return Verdict("failed", f"{how} ({job.state}{reason})")
