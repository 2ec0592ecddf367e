"""Runs of `reprocess --foreground`, each in a fresh process on this terminal, for debugging."""

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daemon.cli.following import cannot_be_executed, submit
from daemon.cli.progress import Tally, Waits, job_line
from daemon.sandbox import Interpreter

if TYPE_CHECKING:  # imported where needed, because every command's start would pay for it
    from daemon.cli.connection import Connection


def run_each(
    service: "Connection",
    folder: Path,
    request: dict[str, Any],
    runs: Sequence[int],
    tally: Tally,
) -> None:
    """Run one job after the other in this terminal, while the service follows what it says."""
    from daemon.backends import ContextBroken

    rows = service.call("settings")["rows"]
    python = rows.get("context_python") or sys.executable
    interpreter = Interpreter.of(python, rows.get("sandbox_args"), folder)
    for run in runs:
        if service.daemon is not None:  # it holds jobs back then, and this would wait for them
            context = service.call("status")["context"]
            if not context["ok"] and not context.get("loading"):
                raise cannot_be_executed(folder, context["problems"])
        jobs = submit(service, {**request, "runs": [run]}, tally)
        try:
            _run_here(service, folder, jobs, interpreter, tally)
        except (ContextBroken, OSError, ValueError) as error:
            # Nobody else is to wait for it, or to try it again.
            service.call("take-back", jobs=jobs, reason=f"it could not be started: {error}")
            for item in service.stream("follow", jobs=jobs):
                tally.take(item)
            if isinstance(error, ContextBroken):
                raise cannot_be_executed(folder, error.problems) from error
            raise click.ClickException(f"run {run} could not be started: {error}") from error
        for job in jobs:
            click.echo(job_line(tally.jobs[job]), err=True)


def _run_here(
    service: "Connection", folder: Path, jobs: list[str], interpreter: Interpreter, tally: Tally
) -> None:
    """Run the attempts of `jobs` as they are handed out; raises what `run_here` does."""
    import asyncio

    from daemon.backends.sequential import run_here
    from daemon.library import install

    waits = Waits()
    with closing(service.stream("follow", jobs=jobs)) as items:
        for item in items:
            waits.update(tally.take(item))
            if item["kind"] == "job" and item["state"] == "dispatched":
                attempt = folder / "jobs" / item["id"] / str(item["attempt"])
                if attempt.exists():  # otherwise it is told of once more when it does
                    asyncio.run(run_here(attempt, folder, install(folder), interpreter))
