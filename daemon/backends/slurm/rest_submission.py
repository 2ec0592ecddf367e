"""What Slurm's service is sent to submit an array, in its two shapes.

Up to v0.0.38 numbers and words stand by themselves; since v0.0.40 a number is an object that also
says whether it is set, words of which there may be several are lists, and variables of the
environment are "NAME=value".
"""

import re
from collections.abc import Mapping
from typing import Any

from daemon.backends.configurations.slurm import SlurmCommon
from daemon.backends.slurm.rest_shapes import version_number
from daemon.backends.slurm.scheduler import Refused, Submission

_MAILS = {
    "NONE": [],
    **{name: [name] for name in ("BEGIN", "END", "FAIL", "REQUEUE")},
    "ALL": ["BEGIN", "END", "FAIL", "REQUEUE", "INVALID_DEPENDENCY", "STAGE_OUT"],
    "TIME_LIMIT": ["TIME=100%"],
}
"""What the later shape has for the words of sbatch."""
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<parts>\d+(?::\d+){0,2})")
_UNITS = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}


def body(submission: Submission, environment: Mapping[str, str], version: str) -> dict[str, Any]:
    """The request to submit an array. Raises Refused for what cannot be said."""
    given = {
        "name": submission.name,
        "comment": submission.comment,
        "array": submission.array,
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
    own = (
        _later(submission, environment)
        if version_number(version) >= 39
        else _early(submission, environment)
    )
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
        "mail_type": None if config.mail_type is None else _MAILS[config.mail_type],
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
