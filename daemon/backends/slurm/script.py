"""The script of a batch: each job of the array runs one attempt by itself.

Everything that stands in it is quoted. It goes to sbatch by its standard input.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctxlib import claim
from daemon.backends.slurm.scheduler import Refused

_CONTROL = re.compile(r"[\x00-\x1f\x7f\udc80-\udcff]")
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True)
class Task:
    """One job of the array: the folder of its attempt, the log of its run, and its name.

    The log begins with a line for the attempt, as those of runners do: what could not be started
    is said below that.
    """

    attempt_dir: Path
    log: Path
    name: str


def quoted(text: str) -> str:
    """`text` as one word of bash, whatever is in it."""
    if not _CONTROL.search(text):
        return shlex.quote(text)
    raw = text.encode(errors="surrogateescape")
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._- "
    return "$'" + "".join(chr(b) if b in plain else f"\\x{b:02x}" for b in raw) + "'"


def script(
    tasks: Sequence[Task],
    *,
    library: Path,
    command: Sequence[str],
    environment: Path | None,
) -> str:
    """The script for the array of `tasks`.

    `library` has ctxlib in it, `command` runs its module `ctxlib.alone`; `environment` is a file
    made by `exports`. All paths are as jobs see them.
    """
    names = {task.name for task in tasks}
    lines = ["#!/bin/bash", 'case "$SLURM_ARRAY_TASK_ID" in']
    for index, task in enumerate(tasks):
        words = f"attempt={quoted(str(task.attempt_dir))} log={quoted(str(task.log))}"
        title = f"job {task.attempt_dir.parent.name}, attempt {task.attempt_dir.name}"
        words += f" name={quoted(task.name)} title={quoted(title)}"
        lines.append(f"{index}) {words} ;;")
    lines += [
        '*) echo "there is no job $SLURM_ARRAY_TASK_ID in this batch" >&2; exit 1 ;;',
        "esac",
        'mkdir -p -- "$(dirname -- "$log")"',
        'exec >>"$log" 2>&1',
        "id=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID",
        'place="Slurm job $id on $SLURMD_NODENAME, partition $SLURM_JOB_PARTITION"',
        'date "+# %H:%M:%S.%3N %F $title: $place"',
        f'export {claim.PLACE}="$place"',
    ]
    if len(names) > 1:
        # Each gets a name of its own now; nothing depends on that.
        # SLURM_JOB_ID is no name for it: that of the last one means all of them.
        update = 'scontrol update "JobId=$id" "JobName=$name"'
        lines.append(f"(timeout 10 {update} >/dev/null 2>&1 </dev/null &)")
    if environment is not None:
        lines.append(f". {quoted(str(environment))} || exit 1")
    lines += [
        # It would keep the working directory, where ctxlib is, from being looked at.
        "unset PYTHONSAFEPATH",
        f"cd -- {quoted(str(library))} || exit 1",
        f'exec {" ".join(map(quoted, command))} "$attempt"',
    ]
    return "\n".join(lines) + "\n"


def exports(variables: Mapping[str, str]) -> str:
    """A file for bash that sets environment variables; Refused for names that bash cannot set."""
    for name in variables:
        if _VARIABLE.fullmatch(name) is None:
            raise Refused(
                f"env_vars: {name!r} cannot be set in a job of Slurm: letters, digits and _ alone"
            )
    return "".join(f"export {name}={quoted(value)}\n" for name, value in variables.items())
