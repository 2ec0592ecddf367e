"""`runtable status`: who serves a folder, what is going on in it, and what stands in the way."""

from collections.abc import Iterator, Mapping
from typing import Any

import click

from daemon.cli.folder import connect, dir_argument, program, quote, served_folder
from daemon.cli.output import how_far, local_time


@click.command("status")
@dir_argument
def command(directory: str | None) -> None:
    """Show what the daemon does, and what stands in its way."""
    folder = served_folder(directory)
    with connect(folder) as service:
        status = service.call("status")
    told = describe(status, program()) if "jobs" in status else describe_many(status, program())
    for label, text in told:
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


def describe_many(status: Mapping[str, Any], command_name: str) -> Iterator[tuple[str, str]]:
    """The lines of a listener's answer to `status`, as those of `describe`."""
    yield "Folder", status["folder"]
    yield "Listener", _daemon(status, command_name)
    for database in status["databases"]:
        yield f"p{database['proposal']}", _short(database)
        events = database["events"]
        if events["waiting"]:
            why = database["trouble"] or "on their way"
            yield "", f"waiting events: {events['waiting']}; {why}"
        if events["refused"]:
            yield "", f"refused events: {events['refused']}; {events['refusal']}"
    if not status["databases"]:
        yield "Databases", f"none; `{command_name} listener add PROPOSAL DIR` adds one"
    if status["dead_letters"]:
        yield "Dead letters", f"{status['dead_letters']}; `{command_name} events` lists them"
    yield from (("Warning", warning) for warning in status["warnings"])


def _short(database: Mapping[str, Any]) -> str:
    since = "" if database["since"] is None else f" since {local_time(database['since'])}"
    process = "" if database["pid"] is None else f" by process {database['pid']}{since}"
    return f"{database['folder']}: {database['state']}{process}"


def _daemon(status: Mapping[str, Any], command_name: str) -> str:
    daemon = status["daemon"]
    if daemon is None and status.get("read_only"):
        return "not known"
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
