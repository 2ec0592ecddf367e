"""The two shapes in which Slurm's service tells what it knows.

Up to v0.0.38 numbers and words stand by themselves; since v0.0.40 a number is an object that also
says whether it is set, and states are lists.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from daemon.backends.slurm.scheduler import (
    COMMENT,
    WHOLE,
    Node,
    Partition,
    Reservation,
    SlurmJob,
    ran_then,
)

Record = Mapping[str, Any]

_MOST = 1000
_FLAGS = frozenset(
    {"COMPLETING", "CONFIGURING", "RESIZING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD"}
    | {"RESV_DEL_HOLD", "REVOKED", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED"}
)
"""What may stand beside a state and says more than that."""


def version_number(version: str) -> int:
    """The last number of a version, as 38 of v0.0.38."""
    return int(version.rpartition(".")[2])


def number(value: Any) -> int | None:
    """A number in either shape; None when it is not set."""
    if isinstance(value, Mapping):
        value = value.get("number") if value.get("set", True) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def words(value: Any) -> list[str]:
    """A word or several, in either shape."""
    return [value] if isinstance(value, str) else [str(word) for word in value or ()]


def jobs_of(records: list[Record], user: str) -> list[SlurmJob]:
    """The jobs of ours among all that there are; one record tells of all that wait in an array."""
    ours = [record for record in records if _is_ours(record, user)]
    single = {
        (number(record.get("array_job_id")), number(record.get("array_task_id"))) for record in ours
    }
    found = []
    for record in ours:
        array, index = number(record.get("array_job_id")), number(record.get("array_task_id"))
        if index is not None:
            found.append(_job(record, str(array), index))
            continue
        places = indices(str(record.get("array_task_string") or "")) or [WHOLE]
        found += [_job(record, str(array), i) for i in places if (array, i) not in single]
    return found


def _is_ours(record: Record, user: str) -> bool:
    comment = record.get("comment") or ""
    return comment.startswith(COMMENT) and record.get("user_name") in (user, "", None)


def _job(record: Record, array: str, index: int) -> SlurmJob:
    code, signal = exit_of(record.get("exit_code"))
    reason = record.get("state_reason") or ""
    return SlurmJob(
        batch=str(record["comment"]).removeprefix(COMMENT),
        array=array,
        index=index,
        number=str(number(record.get("job_id"))),
        state=state_of(record.get("job_state")),
        reason="" if reason == "None" else reason,
        partition=str(record.get("partition") or ""),
        node=str(record.get("nodes") or ""),
        exit_code=code,
        signal=signal,
    )


def state_of(value: Any) -> str:
    """The word for a state that squeue would show."""
    found = words(value) or [""]
    return next((word for word in found[1:] if word in _FLAGS), found[0])


def exit_of(value: Any) -> tuple[int | None, int | None]:
    """Exit code and signal: of the status that `wait` gives, or told apart."""
    if isinstance(value, int):
        return value >> 8, value & 0x7F
    if not isinstance(value, Mapping):
        return None, None
    signal = value.get("signal") or {}
    number_of_signal = number(signal.get("id", signal.get("signal_id")))
    return number(value.get("return_code")) or 0, number_of_signal or 0


def indices(text: str) -> list[int]:
    """The places in an array that still wait together, as of 3,5-9,12-20:4%2.

    Slurm leaves out the end of a long text: everything after what it says may be meant then.
    """
    found: list[int] = []
    for part in text.partition("%")[0].strip("[]").split(","):
        span = re.fullmatch(r"(\d+)(?:-(\d+))?(?::(\d+))?", part)
        if span:
            first = int(span[1])
            found += range(first, int(span[2] or first) + 1, int(span[3] or 1))
    if "..." in text:
        found += range(found[-1] + 1 if found else 0, _MOST)
    return found


def recorded(
    records: list[Record],
    batch: str,
    array: str,
    index: int,
    own: str | None,
    begun: float | None,
) -> SlurmJob | None:
    """The job among those of the accounting, where its comment may not be kept."""
    for record in reversed(records):
        place = record.get("array") or {}
        same = (str(number(place.get("job_id"))), number(place.get("task_id"))) == (array, index)
        comment = (record.get("comment") or {}).get("job") or ""
        times = record.get("time") or {}
        its_own = ran_then(number(times.get("start")), number(times.get("end")), begun)
        if same and (comment == COMMENT + batch or (not comment and its_own)):
            state = record.get("state") or {}
            code, signal = exit_of(record.get("exit_code"))
            reason = state.get("reason") or ""
            return SlurmJob(
                batch=batch,
                array=array,
                index=index,
                number=own or str(number(record.get("job_id"))),
                state=state_of(state.get("current")),
                reason="" if reason == "None" else reason,
                exit_code=code,
                signal=signal,
                by=str(record.get("kill_request_user") or ""),
            )
    return None


def partition_of(record: Record) -> Partition:
    """A partition; the later shape does not tell which one is the default."""
    flags = [flag.lower() for flag in words(record["flags"])] if "flags" in record else None
    nested = record.get("partition") or {}
    states = words(record.get("state") or nested.get("state"))
    minutes = number(record.get("max_time_limit", (record.get("maximums") or {}).get("time")))
    groups = record.get("allowed_groups") or (record.get("groups") or {}).get("allowed") or ""
    return Partition(
        name=str(record["name"]),
        up="UP" in states,
        default=None if flags is None else "default" in flags,
        groups=None if groups in ("", "ALL") else groups.split(","),
        hidden=flags is not None and "hidden" in flags,
        longest=f"{minutes} minutes" if minutes else "less",
    )


def node_of(record: Record) -> Node:
    """A node."""
    return Node(
        name=str(record["name"]),
        partitions=words(record.get("partitions")),
        cpus=number(record.get("cpus")) or 0,
        memory=number(record.get("real_memory")) or 0,
    )


def reservation_of(record: Record, now: float) -> Reservation:
    """A reservation; `now` is a Unix time."""
    start, end = number(record.get("start_time")) or 0, number(record.get("end_time")) or 0
    return Reservation(
        name=str(record["name"]),
        active=start <= now < end,
        start=_time(start),
        end=_time(end),
        partition=record.get("partition") or None,
        nodes=str(record.get("node_list") or ""),
    )


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
