"""What Slurm's states mean for an attempt, and how each is said to people."""

import re
import signal
from dataclasses import dataclass
from typing import Literal

from ctxlib import alone
from ctxlib.processes import FOREIGN_SIGNALS
from daemon.backends.slurm.scheduler import SlurmJob

Kind = Literal["waiting", "running", "failed", "lost", "done"]


@dataclass(frozen=True)
class Verdict:
    """What a state means.

    `waiting` and `running`: Slurm is at it. `failed`: nothing more comes of the attempt, and
    another one would end the same way. `lost`: its place was lost, and another attempt goes on
    with what is left. `done`: the program says that it is done, so that there have to be results.
    `code` is the journal's word for how the variable ended that was running; None: of one that is
    lost, it need not be to blame.
    """

    kind: Kind
    reason: str
    code: str | None = None


_WAITING = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED"}
    | {"SPECIAL_EXIT", "RESV_DEL_HOLD"}
)
_RUNNING = {
    **dict.fromkeys(("RUNNING", "COMPLETING", "RESIZING", "STAGE_OUT", "SIGNALING"), ""),
    "SUSPENDED": "Slurm has suspended it (SUSPENDED)",
    "STOPPED": "Slurm has stopped it for a while (STOPPED)",
}
"""What to say of a job that has begun and has not ended."""
_NO_OUTPUT = 53
"""The signal that Slurm names for a job whose output it could not open."""
_ENDED = {
    "NODE_FAIL": Verdict("lost", "its node failed (NODE_FAIL)"),
    "BOOT_FAIL": Verdict("lost", "its node could not be started (BOOT_FAIL)"),
    "PREEMPTED": Verdict("lost", "it had to make room for another job (PREEMPTED)"),
    "TIMEOUT": Verdict("lost", "Slurm's time limit was over (TIMEOUT)", "timeout"),
    "OUT_OF_MEMORY": Verdict(
        "lost", "used more memory than Slurm gave it (OUT_OF_MEMORY)", "memory"
    ),
    "DEADLINE": Verdict("failed", "Slurm's deadline for it was over (DEADLINE)", "timeout"),
    "REVOKED": Verdict("failed", "another cluster has taken it (REVOKED)"),
    "COMPLETED": Verdict("done", "finished on Slurm but delivered no results"),
}
_MEND = "cancel it and"
_MEANINGS = {
    "Priority": "others are before it",
    "Resources": "all that it could run on is taken",
    "Dependency": "the batch before it has not ended",
    "BeginTime": "Slurm begins with it again in a while",
    "JobArrayTaskLimit": "as many run as may at once (concurrent_jobs)",
    "PartitionDown": "its partition is down",
    "PartitionInactive": "its partition takes no jobs to run now",
    "PartitionTimeLimit": f"its partition allows less time: {_MEND} give a shorter "
    "time_limit, or setting slurm_time",
    "PartitionNodeLimit": f"its partition has fewer nodes: {_MEND} ask for fewer",
    "PartitionConfig": f"its partition cannot give what it asks for: {_MEND} ask for less",
    "BadConstraints": f"no node has what it asks for: {_MEND} ask for something else",
    "ReqNodeNotAvail": "the nodes that it needs are not available",
    "Nodes": "the nodes that it could run on are down or reserved",
    "NodeDown": "its node is down",
    "Reservation": "its reservation has not begun",
    "ReservationDeleted": f"its reservation was deleted: {_MEND} take another one, or none",
    "Licenses": "all licenses that it needs are taken",
    "InvalidAccount": f"Slurm does not know its account: {_MEND} correct the account",
    "InvalidQOS": f"Slurm does not know its qos: {_MEND} correct the qos",
    "JobHeldUser": "somebody holds it back; `scontrol release` lets it go",
    "JobHeldAdmin": "an administrator holds it back",
    "launch": "its node could not begin with it, and Slurm holds it back; ask an administrator",
    "Assoc": "your account has as much as it may",
    "QOS": "your quality of service has as much as it may",
}
"""What Slurm's reasons mean, by the whole word or by how it begins."""
_REASON = re.compile(r"Assoc(?=Grp|Max)|QOS(?=Grp|Max|Min|Job|Res)|[A-Za-z]+")


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
        return Verdict("running", _RUNNING[state])
    if state in _ENDED:
        return _ENDED[state]
    if state == "CANCELLED":
        by = f" by user {job.by}" if job.by else ""
        return Verdict("failed", f"somebody cancelled it in Slurm (CANCELLED{by})", "signal")
    return _failed(job, claimed=claimed)


def place(job: SlurmJob) -> str:
    """What people call a job that waits or runs, and where it is; as `script` has its jobs say."""
    node = f" on {job.node}" if job.node else ""
    partition = f", partition {job.partition}" if job.partition else ""
    return f"Slurm job {job.array}_{job.index}{node}{partition}"


def _why_waiting(reason: str) -> str:
    found = _REASON.match(reason.strip("()"))
    if found is None:
        return "waits in Slurm"
    meaning = _MEANINGS.get(found[0])
    return f"waits in Slurm: {meaning} ({reason})" if meaning else f"waits in Slurm: {reason}"


def _failed(job: SlurmJob, *, claimed: bool) -> Verdict:
    """A state FAILED, or one that nobody has heard of."""
    code = job.exit_code
    if code == alone.CLAIMED:
        return Verdict("lost", "Slurm had started it before, on a node that is gone (requeued)")
    number = job.signal or (code - 128 if code is not None and 128 < code < 160 else 0)
    if number == _NO_OUTPUT:
        words = "Slurm could not start it on its node, or open its output there"
        mend = "the node has to see the database's folder, by its path here or by database_path"
        return Verdict("failed", f"{words} (signal {number}, {job.state}): {mend}", "signal")
    if number:
        names = {known.value: known.name for known in signal.Signals}
        how = f"killed by signal {names.get(number, number)} ({job.state})"
        # Whoever has begun and was killed from outside goes on, as on this machine.
        foreign = claimed and number in FOREIGN_SIGNALS
        return Verdict("lost", how) if foreign else Verdict("failed", how, "signal")
    how = "it failed" if code is None else f"exit code {code}"
    reason = "" if job.reason in ("", "NonZeroExitCode") else f", {job.reason}"
    begun = "" if claimed else "it could not begin, and its log may say why: "
    return Verdict("failed", f"{begun}{how} ({job.state}{reason})")
