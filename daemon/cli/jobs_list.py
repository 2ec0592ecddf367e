"""`runtable jobs list`: what was, is and will be processed."""

from collections.abc import Mapping
from typing import Any

import click

from daemon.cli.folder import connect, database_folder, dir_argument
from daemon.cli.output import how_far, local_time, on_backend, print_table
from daemon.jobs.states import State

STATES = tuple(state.value for state in State if state is not State.LAUNCHING)
"""Those that a job can be seen in: one that is being made is nobody's yet."""


@click.command("list")
@dir_argument
@click.option("--state", type=click.Choice(STATES), help="Only jobs in this state.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    metavar="N",
    help="At most so many jobs, the newest.",
)
def command(directory: str | None, state: str | None, limit: int) -> None:
    """List the jobs, and why some failed or wait.

    A job processes one run's raw data, its proc data, or both.
    """
    with connect(database_folder(directory)) as service:
        jobs = service.call("jobs", limit=limit, state=state)["jobs"]
    if not jobs:
        click.echo(f"No jobs in state {state}." if state else "No jobs so far.")
        return
    elsewhere = any(on_backend(job.get("backend")) for job in jobs)
    where = ["backend"] if elsewhere else []
    print_table(
        ["job", "run", "data", *where, "state", "try", "started", "took", "reason"],
        [
            [
                job["id"],
                *(["", "command"] if job.get("command") else [job["run"], job["data"]]),
                *([job["backend"]] if elsewhere else []),
                job["state"],
                job["attempt"],
                local_time(job["started"]),
                _duration(job["started"], job["ended"]),
                _remark(job),
            ]
            for job in jobs
        ],
    )


def _remark(job: Mapping[str, Any]) -> str:
    """Why a job ended or waits, what it is at, or why its row cannot be read."""
    if job.get("problem"):  # daemons of earlier versions do not say it
        return str(job["problem"])
    return job["reason"] or job["waiting_reason"] or _now(job.get("running"))


def _now(running: Mapping[str, Any] | None) -> str:
    """What a job that runs is at; daemons of earlier versions do not say it."""
    if running is None:
        return ""
    return running.get("waits") or how_far(running["variable"], running["progress"])


def _duration(started: float | None, ended: float | None) -> str:
    return "" if started is None or ended is None else f"{max(0.0, ended - started):.1f} s"
