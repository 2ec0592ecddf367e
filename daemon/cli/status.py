"""`runtable status`: who serves a folder, what is going on in it, and what stands in the way."""

from collections.abc import Iterator, Mapping
from typing import Any

import click

from daemon.cli.folder import connect, database_folder, dir_argument, program, quote
from daemon.cli.output import how_far, local_time


@click.command("status")
@dir_argument
def command(directory: str | None) -> None:
    """Show what the daemon does, and what stands in its way."""
    folder = database_folder(directory)
    with connect(folder) as service:
        status = service.call("status")
    for label, text in describe(status, program()):
        click.echo(f"{label:<12}  {text}".rstrip())


def describe(status: Mapping[str, Any], command_name: str) -> Iterator[tuple[str, str]]:
    """The lines of the answer to `status`: label ("" when the one above holds on) and text."""
    from ctxlib.errors import Problem

    yield "Folder", status["folder"]
    where = f" in {status['proposal_path']}" if status["proposal_path"] else ", folder not found"
    yield "Proposal", f"{status['proposal']}{where}" if status["proposal"] else "not set"
    yield "Daemon", _daemon(status, command_name)
    if status["sources"]:
        yield "Events from", ", ".join(status["sources"])
    context = status["context"]
    yield "context.py", _context(context)
    if not context.get("loading"):  # they would be an earlier version's
        yield from (("", str(Problem.from_json(problem))) for problem in context["problems"])
    yield (
        "Jobs",
        ", ".join(f"{number} {state}" for state, number in status["jobs"].items()) or "none",
    )
    yield from (("", _running(job)) for job in status["running"])
    if status["waiting"]:
        yield "Waiting", status["waiting"]
    if status["dead_letters"]:
        letters = status["dead_letters"]
        yield "Dead letters", f"{letters}; `{command_name} events` lists them"
    yield from (("Warning", warning) for warning in status["warnings"])


def _daemon(status: Mapping[str, Any], command_name: str) -> str:
    daemon = status["daemon"]
    if daemon is None:
        folder = quote(status["folder"])
        return f"none; `{command_name} listen {folder} --daemonize` starts it"
    return (
        f"on {daemon['host']}, process {daemon['pid']} of {daemon['user']}, "
        f"since {local_time(daemon['since'])}"
    )


def _context(context: Mapping[str, Any]) -> str:
    if context.get("loading"):
        return "is being loaded; ask again to see what comes of it"
    if not context["ok"]:
        return "cannot be executed; events wait until it can"
    return "can be executed; some variables have problems" if context["problems"] else "in order"


def _running(job: Mapping[str, Any]) -> str:
    total = "" if job["total"] is None else f", {job['done']} of {job['total']} variables done"
    now = f", now {how_far(job['variable'], job.get('progress'))}" if job["variable"] else ""
    return f"run {job['run']} {job['data']} since {local_time(job['since'])}{total}{now}"
