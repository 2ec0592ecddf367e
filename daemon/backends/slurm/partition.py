"""In which partition or reservation jobs run: as told, or the best that the user may use."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from daemon.backends.configurations.slurm import SlurmCommon
from daemon.backends.slurm.scheduler import Partition, Refused, Reservation, Scheduler
from daemon.settings import Settings

_USUAL = "upex"
"""The partition of users of a facility's beamlines; its staff have one called as their group."""


@dataclass(frozen=True)
class Place:
    """Where jobs run, and for how long at most; of the first two one at most is given."""

    partition: str | None
    reservation: str | None
    time_limit: str


async def place(config: SlurmCommon, settings: Settings, scheduler: Scheduler) -> Place:
    """Where a batch goes that is submitted now.

    What the configuration says comes before the settings of the database, and a reservation before
    a partition. Raises Refused, with the mend, for a reservation that cannot be used any more, and
    what Slurm raises.
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
        _check(reservation, await scheduler.reservations(), mend)
        return Place(None, reservation, time_limit)
    if partition is None:
        partition = best(await scheduler.partitions(), await scheduler.groups())
    return Place(partition, None, time_limit)


def _check(name: str, known: Sequence[Reservation], mend: str) -> None:
    """Raise Refused unless the reservation is there; one that begins later is waited for."""
    if name in {reservation.name for reservation in known}:
        return
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
