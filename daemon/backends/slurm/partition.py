"""In which partition or reservation jobs run: as told, or the best that the user may use."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from daemon.backends.configurations.slurm import SlurmCommon
from daemon.backends.slurm.hostlist import expanded
from daemon.backends.slurm.scheduler import Partition, Refused, Reservation, Scheduler
from daemon.settings import Settings

_USUAL = "upex"
"""The partition of users of a facility's beamlines; its staff have one called as their group."""


@dataclass(frozen=True)
class Place:
    """Where jobs run, and for how long at most; a reservation may need a partition, too."""

    partition: str | None
    reservation: str | None
    time_limit: str


async def place(config: SlurmCommon, settings: Settings, scheduler: Scheduler) -> Place:
    """Where a batch goes that is submitted now.

    What the configuration says comes before the settings of the database, and a reservation before
    a partition, which is used with it only where its nodes are. Raises Refused, with the mend, for
    a reservation that cannot be used any more, and what Slurm raises.
    """
    given = "time_limit" in config.model_fields_set or settings.slurm_time is None
    time_limit = config.time_limit if given else str(settings.slurm_time)
    if config.reservation or config.partition:
        reservation, partition = config.reservation, config.partition
        mend = "correct the configuration"
    else:
        reservation, partition = settings.slurm_reservation, settings.slurm_partition
        mend = "`runtable db-config slurm_reservation --delete` takes it away"
    if reservation is not None:
        found = _found(reservation, await scheduler.reservations(), mend)
        return Place(await _partition_of(found, partition, scheduler), reservation, time_limit)
    if partition is None:
        partition = best(await scheduler.partitions(), await scheduler.groups())
    return Place(partition, None, time_limit)


async def _partition_of(
    reservation: Reservation, wanted: str | None, scheduler: Scheduler
) -> str | None:
    """The partition for jobs of a reservation; None where Slurm takes the right one by itself.

    One that names none is used by jobs of its nodes' partitions alone: the one `wanted`, or the
    best of those.
    """
    if reservation.partition is not None:
        return None
    names = expanded(reservation.nodes)
    there = [node for node in await scheduler.nodes() if node.name in names]
    partitions = await scheduler.partitions()
    # One that has all of them goes before one that has some.
    having = {p.name: sum(p.name in node.partitions for node in there) for p in partitions}
    most = max(having.values(), default=0)
    if not most or any(p.default and having[p.name] == most for p in partitions):
        return None
    groups = await scheduler.groups()
    ours = [p for p in usable(partitions, groups) if having[p.name] == most]
    if wanted in {p.name for p in ours}:
        return wanted
    return best(ours, groups) or next((p.name for p in ours), None)


def _found(name: str, known: Sequence[Reservation], mend: str) -> Reservation:
    """The reservation; Refused unless it is there. One that begins later is waited for."""
    for reservation in known:
        if reservation.name == name:
            return reservation
    there = ", ".join(sorted(reservation.name for reservation in known)) or "none"
    raise Refused(
        f"Slurm has no reservation {name}: it has expired, or is called otherwise (there are: "
        f"{there}); {mend}"
    )


def usable(partitions: Collection[Partition], groups: Collection[str]) -> list[Partition]:
    """The partitions that are up and open to a user with these groups."""
    return [
        partition
        for partition in partitions
        if partition.up and (partition.groups is None or set(partition.groups) & set(groups))
    ]


def best(partitions: Collection[Partition], groups: Collection[str]) -> str | None:
    """The partition to use, by the user's groups; None leaves it to Slurm's own default."""
    ours = usable(partitions, groups)
    named = [p for p in ours if p.name in groups and p.groups is not None]
    usual = [p for p in ours if p.name == _USUAL]
    if not named and not usual and any(p.default is None for p in partitions):
        return None  # Slurm knows its own
    default = [p for p in ours if p.default]
    restricted = [p for p in ours if p.groups is not None and not p.hidden]
    open_ = [p for p in ours if not p.hidden]
    chosen = [*named, *usual, *default, *restricted, *open_]
    return chosen[0].name if chosen else None
