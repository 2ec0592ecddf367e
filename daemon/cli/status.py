"""`runtable status`: who serves a folder, what is going on in it, and what stands in the way."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from daemon.cli.folder import connect, dir_argument, program, quote, served_folder
from daemon.cli.output import how_far, local_time, on_backend, plural
from daemon.cli.plan import name_runs

MOST = 20
"""Jobs that have begun, of which more are only counted."""


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
    yield from (("", text) for text in at_work(status["running"], command_name))
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


def at_work(jobs: Sequence[Mapping[str, Any]], command_name: str) -> Iterator[str]:
    """The lines on jobs that backends have: each that has begun, then what others wait for."""
    begun = [job for job in jobs if job.get("begun", True)]
    yield from map(_running, begun[:MOST])
    if len(begun) > MOST:
        more = len(begun) - MOST
        yield f"and {more} more; `{command_name} jobs --state running` lists them"
    waiting: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for job in jobs:
        if not job.get("begun", True):
            waiting.setdefault((job["backend"], job["waits"]), []).append(job)
    for (backend, waits), group in waiting.items():
        yield f"{_names(group)}{on_backend(backend)}: {waits or 'about to begin'}"


def _names(jobs: Sequence[Mapping[str, Any]]) -> str:
    runs = [job["run"] for job in jobs if job["command"] is None]
    commands = len(jobs) - len(runs)
    said = [name_runs(runs)] if runs else []
    return " and ".join([*said, plural(commands, "command")] if commands else said)


def _running(job: Mapping[str, Any]) -> str:
    what = f"run {job['run']} {job['data']}"
    if job.get("command") is not None:
        what = f"command {job['job']}"
    since = f" since {local_time(job['since'])}" if job["since"] is not None else ""
    far = f", {job['done']} of {job['total']} variables done" if job["total"] else ""
    now = f", now {how_far(job['variable'], job.get('progress'))}" if job["variable"] else ""
    waits = f"; {job['waits']}" if job.get("waits") else ""
    return f"{what}{on_backend(job.get('backend'))}{since}{far}{now}{waits}"
