"""Puts together what is submitted for a batch: names, script, and where its output goes."""

import asyncio
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctxlib.job_folder import REQUEST
from daemon.backends.attempts import called
from daemon.backends.configurations.errors import ConfigurationError
from daemon.backends.configurations.secrets import SecretError
from daemon.backends.configurations.slurm import SlurmCommon
from daemon.backends.context import ManagerContext
from daemon.backends.slurm.batches import Batch
from daemon.backends.slurm.partition import place
from daemon.backends.slurm.scheduler import COMMENT, Refused, Scheduler, Submission
from daemon.backends.slurm.script import Task, exports, script

# Slurm puts in for %, and takes backslashes for itself.
_PLAIN = re.compile(r"[\w./+@-]+", re.ASCII)


class Describing:
    """Describes batches of one configuration."""

    def __init__(self, config: SlurmCommon, context: ManagerContext, scheduler: Scheduler) -> None:
        self._config = config
        self._context = context
        self._scheduler = scheduler

    async def describe(self, batch: Batch, array: str, after: Sequence[str]) -> Submission:
        """What to submit for a batch; see `Submission` for `array` and `after`.

        Raises Refused, and what Slurm raises when it is asked.
        """
        try:
            config = await asyncio.to_thread(self._config.resolved)
        except ConfigurationError as error:
            raise Refused("; ".join(error.problems)) from error
        where = await place(config, self._context.settings(), self._scheduler)
        folder = self._context.folder
        tasks = await asyncio.to_thread(self._tasks, batch)
        environment = await asyncio.to_thread(self._write_environment, batch)
        python = self._config.python
        command = [python] if python else self._context.interpreter().command()
        text = script(
            tasks,
            library=self._there(self._context.library),
            command=[*command, "-m", "ctxlib.alone"],
            environment=environment,
        )
        return Submission(
            name=self._config.job_name or _name_of_all([task.name for task in tasks]),
            comment=COMMENT + batch.id,
            script=text,
            array=array,
            after=after,
            chdir=str(self._there(folder)),
            output=self._config.output_file or self._output(batch, tasks),
            error=self._config.error_file,
            partition=where.partition,
            reservation=where.reservation,
            time_limit=where.time_limit,
            config=config,
        )

    def _there(self, path: Path) -> Path:
        """A path below the database's folder, or another one, as jobs see it."""
        root, folder = self._config.database_path, self._context.folder
        return (
            Path(root) / path.relative_to(folder) if root and path.is_relative_to(folder) else path
        )

    def _tasks(self, batch: Batch) -> list[Task]:
        folder = self._context.folder
        tasks = []
        for attempt_dir in batch.attempt_dirs(folder / "jobs"):
            request = _request(attempt_dir)
            log = Path(request.get("log") or folder / "process_logs" / "slurm.out")
            tasks.append(Task(self._there(attempt_dir), self._there(log), called(request)))
        return tasks

    def _write_environment(self, batch: Batch) -> Path | None:
        """Write the file that sets the job's environment variables, for nobody else to read."""
        try:
            variables = self._config.environment()
        except SecretError as error:
            raise Refused(str(error)) from error
        if not variables:
            return None
        path = self._context.folder / "jobs" / ".batches" / f"{batch.id}.env"
        path.unlink(missing_ok=True)
        content = exports(variables).encode(errors="surrogateescape")
        with open(path, "xb", opener=_private) as file:
            file.write(content)
        return self._there(path)

    def _output(self, batch: Batch, tasks: Sequence[Task]) -> str:
        """Where Slurm itself writes, relative to the folder: the log if all have the same one."""
        folder, logs = self._there(self._context.folder), {task.log for task in tasks}
        if not _PLAIN.fullmatch(str(folder)):
            return "/dev/null"  # jobs open their logs by themselves; this loses what Slurm adds
        log = next(iter(logs))
        if len(logs) == 1 and log.is_relative_to(folder):
            relative = log.relative_to(folder)
            if _PLAIN.fullmatch(str(relative)):
                # Slurm does not make the folder of a log.
                (self._context.folder / relative).parent.mkdir(parents=True, exist_ok=True)
                return str(relative)
        return f"jobs/.batches/{batch.id}.out"


def _name_of_all(names: Sequence[str]) -> str:
    """What the array is called until its jobs run: after the first and the last of its runs."""
    first, last = names[0], names[-1]
    if first == last:
        return first
    run, rest = first.split("-", 1)
    if rest == last.split("-", 1)[1]:
        return f"{run}-{last}"
    return f"{run}-and-more-damnit"


def _request(attempt_dir: Path) -> dict[str, Any]:
    """The request of an attempt; nothing of one that cannot be read, as the job itself will say."""
    try:
        found = json.loads((attempt_dir.parent / REQUEST).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
