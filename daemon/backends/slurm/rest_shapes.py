"""The two shapes in which Slurm's service takes and tells what it knows.

Up to v0.0.38 numbers and words stand by themselves; since v0.0.40 a number is an object that also
says whether it is set, states are lists, and variables of the environment are "NAME=value".
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from daemon.backends.configurations.slurm import SlurmCommon
from daemon.backends.slurm.scheduler import (
    COMMENT,
    Partition,
    Refused,
    Reservation,
    SlurmJob,
    Submission,
)

Record = Mapping[str, Any]

_MOST = 1000
_FLAGS = frozenset(
    {"COMPLETING", "CONFIGURING", "RESIZING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD"}
    | {"RESV_DEL_HOLD", "REVOKED", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED"}
)
"""What may stand beside a state and says more than that."""
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<parts>\d+(?::\d+){0,2})")
_UNITS = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}


def version_number(version: str) -> int:
    """The last number of a version, as 38 of v0.0.38."""
    return int(version.rpartition(".")[2])


def is_later(version: str) -> bool:
    """Whether a version has the later shape."""
    return version_number(version) >= 39


# What is sent


def body(submission: Submission, environment: Mapping[str, str], version: str) -> dict[str, Any]:
    """The request to submit an array. Raises Refused for what cannot be said."""
    given = {
        "name": submission.name,
        "comment": submission.comment,
        "array": f"0-{submission.count - 1}%{submission.at_once}",
        "dependency": "afterany:" + ":".join(submission.after) if submission.after else None,
        "current_working_directory": submission.chdir,
        "standard_input": "/dev/null",
        "standard_output": submission.output,
        "standard_error": submission.error,
        "partition": submission.partition,
        "reservation": submission.reservation,
        "account": submission.config.account,
        "qos": submission.config.qos,
        "tasks": submission.config.ntasks,
        "cpus_per_task": submission.config.cpus_per_task,
        "mail_user": submission.config.mail_user,
    }
    own = _later(submission, environment) if is_later(version) else _early(submission, environment)
    job = {name: value for name, value in {**given, **own}.items() if value is not None}
    if version_number(version) > 40:
        return {"job": {**job, "script": submission.script}}
    return {"script": submission.script, "job": job}


def _early(submission: Submission, environment: Mapping[str, str]) -> dict[str, Any]:
    config = submission.config
    return {
        "environment": dict(environment),
        "nodes": [config.nodes, config.nodes],
        "nodelist": config.explicit_node,
        "time_limit": minutes(submission.time_limit),
        "memory_per_node": megabytes(config.memory),
        "mail_type": config.mail_type,
        "open_mode": "append",
        # An attempt is claimed once: one that is put back would find itself taken. This shape takes
        # a "requeue" of false for true.
        "no_requeue": True,
        **_options(
            config,
            {
                "--exclude": lambda text: {"exclude_nodes": text},
                "--exclusive": lambda _: {"exclusive": "exclusive"},
                "--gpus": lambda text: {"gpus": text},
                "--gres": lambda text: {"gres": text},
            },
        ),
    }


def _later(submission: Submission, environment: Mapping[str, str]) -> dict[str, Any]:
    config = submission.config
    memory = megabytes(config.memory)
    return {
        "environment": [f"{name}={value}" for name, value in environment.items()],
        "minimum_nodes": config.nodes,
        "maximum_nodes": config.nodes,
        "required_nodes": None if config.explicit_node is None else [config.explicit_node],
        "time_limit": _set(minutes(submission.time_limit)),
        "memory_per_node": None if memory is None else _set(memory),
        "mail_type": None if config.mail_type is None else [config.mail_type],
        "open_mode": ["APPEND"],
        "requeue": False,
        **_options(
            config,
            {
                "--exclude": lambda text: {"excluded_nodes": [text]},
                "--exclusive": lambda _: {"shared": ["none"]},
                "--gpus": lambda text: {"tres_per_job": f"gres/gpu:{text}"},
                "--gres": lambda text: {
                    "tres_per_node": ",".join(f"gres/{each}" for each in text.split(","))
                },
            },
        ),
    }


def _options(config: SlurmCommon, own: Mapping[str, Any]) -> dict[str, Any]:
    """The fields for `additional_options`; those of a shape's `own` are told how."""
    known = {
        "--constraint": lambda text: {"constraints": text},
        "--licenses": lambda text: {"licenses": text},
        "--nice": lambda text: {"nice": int(text)},
        **own,
    }
    found: dict[str, Any] = {}
    for option in config.additional_options:
        name, _, value = option.partition("=")
        found |= known[name](value)
    return found


def _set(number: int) -> dict[str, Any]:
    return {"set": True, "infinite": False, "number": number}


def minutes(text: str) -> int:
    """A time limit as sbatch takes it, in whole minutes. Raises Refused."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise Refused(
            f"time limit {text!r}: write hours:minutes:seconds, as 1:30:00, or days-hours"
        )
    parts = [int(part) for part in found["parts"].split(":")]
    if found["days"] is not None:
        hours, minute, second = (*parts, 0, 0)[:3]
        hours += 24 * int(found["days"])
    elif len(parts) == 3:
        hours, minute, second = parts
    else:
        hours, (minute, second) = 0, (*parts, 0)[:2]
    return hours * 60 + minute + (second > 0)


def megabytes(memory: str | None) -> int | None:
    """Memory as sbatch takes it, in MB, the next greater one."""
    if memory is None:
        return None
    unit = memory[-1].upper()
    if unit not in _UNITS:
        return int(memory)
    return max(1, -int(-int(memory[:-1]) * _UNITS[unit] // 1))


# What is told


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
        places = indices(str(record.get("array_task_string") or ""))
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
    records: list[Record], batch: str, array: str, index: int, own: str | None
) -> SlurmJob | None:
    """The job among those of the accounting, where its comment may not be kept."""
    for record in reversed(records):
        place = record.get("array") or {}
        same = (str(number(place.get("job_id"))), number(place.get("task_id"))) == (array, index)
        comment = (record.get("comment") or {}).get("job") or ""
        if same and comment in ("", COMMENT + batch):
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
    groups = record.get("allowed_groups") or (record.get("groups") or {}).get("allowed") or ""
    return Partition(
        name=str(record["name"]),
        up="UP" in states,
        default=None if flags is None else "default" in flags,
        groups=None if groups in ("", "ALL") else groups.split(","),
        hidden=flags is not None and "hidden" in flags,
    )


def reservation_of(record: Record, now: float) -> Reservation:
    """A reservation; `now` is a Unix time."""
    start, end = number(record.get("start_time")) or 0, number(record.get("end_time")) or 0
    return Reservation(
        name=str(record["name"]), active=start <= now < end, start=_time(start), end=_time(end)
    )


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
