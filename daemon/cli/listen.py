"""`runtable listen`: run the daemon of a folder, here or under Supervisor."""

import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from daemon.cli.folder import (
    DATABASE,
    connect,
    debugging,
    dir_argument,
    program,
    quote,
    served_folder,
)

if TYPE_CHECKING:  # imported where needed, because every command's start would pay for it
    from daemon.lock import Holder


@click.command("listen")
@dir_argument
@click.option(
    "--test",
    is_flag=True,
    help='Take runs that are typed in, such as "42" or "42 proc", as if they had arrived.',
)
@click.option(
    "--daemonize",
    is_flag=True,
    help="Run the daemon under Supervisor, which starts it again when it dies. Where it runs so "
    "already, it is restarted if settings about Supervisor have changed.",
)
def command(directory: str | None, test: bool, daemonize: bool) -> None:
    """Watch for new runs and process them.

    In the folder of a listener, a daemon for each of its databases is kept running.
    Stops with Ctrl-C or SIGTERM; what is under way then is finished at the next start.
    """
    if test and daemonize:
        raise click.UsageError("--test is for a terminal: not with --daemonize")
    if test:
        from daemon.cli.typed_runs import take_typed_runs

        take_typed_runs(directory)
        return
    folder = served_folder(directory)
    if daemonize:
        _daemonize(folder)
    else:
        _serve(folder)


def _serve(folder: Path) -> None:
    from daemon.control import ServiceError
    from daemon.database import SchemaError
    from daemon.listen import AlreadyServedError, run

    try:
        run(folder, debug=debugging())
    except (AlreadyServedError, ServiceError, SchemaError) as error:
        raise click.ClickException(str(error)) from error


def _daemonize(folder: Path) -> None:
    from daemon import supervisor
    from daemon.settings import Settings

    with connect(folder) as service:
        daemon = service.daemon
        if daemon is not None and not _is_supervised(folder, daemon):
            raise click.ClickException(
                f"{folder} is served already, by {daemon}; see `{program()} status {quote(folder)}`"
            )
        settings = Settings.from_rows(service.call("settings")["rows"])
    # -P: it runs in the folder, which is the user's and may have modules with names of ours.
    ours = [sys.executable, "-P", "-m", "daemon.cli"]
    program_line = [*ours, "listen", str(folder)]
    web = [*ours, "web", str(folder)] if _serves_web(folder) else None
    try:
        if daemon is not None and supervisor.is_rendered(folder, settings, program_line, web):
            click.echo("The daemon runs under Supervisor already, with these settings.")
            return
        configuration = supervisor.render(folder, settings, program_line, web)
        supervisor.start(folder)
    except supervisor.SupervisorError as error:
        raise click.ClickException(str(error)) from error
    if daemon is not None:
        click.echo("Supervisor was told what has changed; what that concerns was restarted.")
    click.echo(
        f"The daemon runs under Supervisor. `supervisorctl -c {quote(configuration)} status` "
        "shows it; restart and stop work likewise."
    )


def _serves_web(folder: Path) -> bool:
    """Whether the web interface runs beside the daemon: where there is a table to be seen."""
    from daemon.cli.web import missing

    return (folder / DATABASE).exists() and not missing()


def _is_supervised(folder: Path, daemon: "Holder") -> bool:
    """Whether the folder's Supervisor, on this machine, runs `daemon`."""
    from daemon import supervisor

    return daemon.host == socket.gethostname() and daemon.pid == supervisor.runs_as(folder)
