"""What to do about a submission that Slurm refuses: what there is, beside what was asked for."""

import re
from collections.abc import Sequence

from daemon.backends.slurm.partition import usable
from daemon.backends.slurm.scheduler import (
    Node,
    Partition,
    Refused,
    Scheduler,
    SlurmError,
    Submission,
    TooLong,
)

_WHO = re.compile(r"sbatch: error: |Batch job submission failed: ")
_PARTITION = re.compile("partition name|group not permitted|partition not available", re.I)
_TIME = re.compile("time limit", re.I)
_SIZE = re.compile("node configuration|memory|cpu count|processors|node count|job size", re.I)
_NAMES = {
    re.compile("account", re.I): ("account", "account"),
    re.compile("qos", re.I): ("qos", "qos"),
    re.compile("node name", re.I): ("explicit_node", "explicit_node"),
    re.compile("reservation", re.I): (
        "reservation",
        "reservation or the setting slurm_reservation",
    ),
    re.compile("feature|gres|license", re.I): ("additional_options", "additional_options"),
}
"""What an error is about: the field that says it, and where it is corrected."""


async def submit(submission: Submission, scheduler: Scheduler) -> str:
    """Queue an array and return its number; see `Scheduler`. A refusal comes with its mend."""
    try:
        return await scheduler.submit(submission)
    except TooLong:
        raise
    except Refused as error:
        raise Refused(await mended(str(error), submission, scheduler)) from error


async def mended(said: str, submission: Submission, scheduler: Scheduler) -> str:
    """What Slurm has said to refuse `submission`, with the mend as far as one is known."""
    said = _WHO.sub("", said)
    try:
        mend = await _mend(said, submission, scheduler)
    except SlurmError:
        mend = None  # it was there a moment ago: what it has said has to do
    return f"{said}: {mend}" if mend else said


async def _mend(said: str, submission: Submission, scheduler: Scheduler) -> str | None:
    if _PARTITION.search(said):
        names = [p.name for p in usable(await scheduler.partitions(), await scheduler.groups())]
        mend = "correct the partition, or the setting slurm_partition"
        asked = f"{submission.partition} was asked for, and " if submission.partition else ""
        return f"{asked}you may use {', '.join(names) or 'none'}; {mend}"
    if _TIME.search(said):
        found = _of(submission, await scheduler.partitions())
        allowed = f"partition {found.name} allows {found.longest}" if found else "it is too long"
        mend = "give a shorter time_limit, or setting slurm_time"
        return f"{submission.time_limit} was asked for, and {allowed}; {mend}"
    if _SIZE.search(said):
        found = _of(submission, await scheduler.partitions())
        nodes = [n for n in await scheduler.nodes() if found is None or found.name in n.partitions]
        mend = f"asked for {_asked(submission)}; {_largest(nodes, found)}"
        if submission.reservation is not None:
            mend += (
                f"; the nodes of reservation {submission.reservation} have to be among them, or it "
                "has to name their partition, which an administrator sees to: `scontrol update "
                f"ReservationName={submission.reservation} PartitionName=...`"
            )
        return mend
    for about, (field, where) in _NAMES.items():
        if about.search(said):
            value = submission.reservation or getattr(submission.config, field)
            return f"correct {where} ({value})"
    return None


def _of(submission: Submission, partitions: Sequence[Partition]) -> Partition | None:
    """The partition that a submission is for, as far as it is known."""
    name = submission.partition
    return next((p for p in partitions if p.name == name or (name is None and p.default)), None)


def _asked(submission: Submission) -> str:
    config = submission.config
    cores = config.cpus_per_task
    said = [f"{config.nodes} nodes" if config.nodes > 1 else "a node"]
    said += [f"{config.ntasks} tasks"] if config.ntasks > 1 else []
    said += [] if cores is None else [f"cpus_per_task {cores}"]
    said += [] if config.memory is None else [f"memory {config.memory}"]
    return ", ".join([*said, *config.additional_options])


def _largest(nodes: Sequence[Node], partition: Partition | None) -> str:
    where = "" if partition is None else f" of partition {partition.name}"
    if not nodes:
        return f"there is no node{where}: ask for another partition"
    cores, memory = max(node.cpus for node in nodes), max(node.memory for node in nodes)
    return f"the {len(nodes)} nodes{where} have up to {cores} cores and {memory}M each"
