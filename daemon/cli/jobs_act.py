"""`runtable jobs stop|cancel|requeue|fail`: what is done to jobs, recorded with who and why."""

from collections.abc import Callable, Mapping
from typing import Any

import click

from daemon.cli.folder import connect, database_folder, in_option, program
from daemon.person import person

OUTCOMES = {
    "queued": "queued for another attempt",
    "stop_requested": "told to stop",
    "stopped": "stopped",
    "canceled": "canceled",
    "failed": "given up",
}
"""What is said of a job that an act has left in a state."""

Command = Callable[..., None]


def _options(function: Command) -> Command:
    """Give a command the ids, the folder and the reason."""
    reason = click.option("--reason", metavar="TEXT", help="Why; it is kept in the job's history.")
    ids = click.argument("jobs", metavar="ID...", nargs=-1, required=True)
    return ids(in_option(reason(function)))


def _force(help_text: str) -> Callable[[Command], Command]:
    return click.option("--force", is_flag=True, help=help_text)


@click.command("stop")
@_options
def stop(jobs: tuple[str, ...], directory: str | None, reason: str | None) -> None:
    """Stop jobs with all their processes.

    What a job has computed until then is kept. One that ends in that moment is finished; one that
    only waits is canceled. An id may be shortened to its beginning.
    """
    _act(directory, "stop", jobs, reason or f"stopped by {person()}")


@click.command("cancel")
@_options
def cancel(jobs: tuple[str, ...], directory: str | None, reason: str | None) -> None:
    """Take back jobs that have not begun."""
    _act(directory, "cancel", jobs, reason or f"canceled by {person()}")


@click.command("requeue")
@_options
@_force("Also jobs that have finished.")
def requeue(
    jobs: tuple[str, ...], directory: str | None, reason: str | None, *, force: bool
) -> None:
    """Run jobs that have ended once more.

    That is a new attempt, which computes everything anew; the job's history stays.
    """
    _act(directory, "requeue", jobs, reason or f"requeued by {person()}", force=force)


@click.command("fail")
@_options
@_force("Also jobs that only wait.")
def fail(jobs: tuple[str, ...], directory: str | None, reason: str | None, *, force: bool) -> None:
    """Give up jobs that are under way, with all their processes.

    For jobs that cannot be stopped otherwise: nobody waits for what they say of their end.
    """
    _act(directory, "fail", jobs, reason or f"given up by {person()}", force=force)


def _act(directory: str | None, act: str, jobs: tuple[str, ...], why: str, **more: bool) -> None:
    folder = database_folder(directory)
    why = why.encode("utf-8", "backslashreplace").decode()  # a terminal may give any bytes
    with connect(folder) as service:
        answer = service.call(act, jobs=list(jobs), by=person(), reason=why, **more)
        served = service.daemon is not None
    for job in answer["jobs"]:
        click.echo(f"{job['id']}  {_outcome(job)}")
    left = {job["state"] for job in answer["jobs"]} & {"queued", "stop_requested"}
    if left and not served:
        click.echo(f"No daemon runs: `{program()} listen` goes on from here.", err=True)
    for refusal in answer["refused"]:
        click.echo(f"Error: {refusal['reason']}", err=True)
    if answer["refused"]:
        raise SystemExit(1)


def _outcome(job: Mapping[str, Any]) -> str:
    what = "command" if job.get("command") else f"run {job['run']} {job['data']}"
    return f"{what}: {OUTCOMES.get(job['state'], job['state'])}"
