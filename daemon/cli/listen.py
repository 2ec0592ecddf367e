"""`runtable listen`: run the daemon of a folder, here or under Supervisor."""

import sys
from pathlib import Path

import click

from daemon.cli.folder import connect, database_folder, dir_argument, program


@click.command("listen")
@dir_argument
@click.option(
    "--daemonize",
    is_flag=True,
    help="Run the daemon under Supervisor, which starts it again when it dies.",
)
def command(directory: str | None, daemonize: bool) -> None:
    """Watch for new runs and process them.

    Stops with Ctrl-C or SIGTERM; what is under way then is finished at the next start.
    """
    folder = database_folder(directory)
    if daemonize:
        _daemonize(folder)
    else:
        _serve(folder)


def _serve(folder: Path) -> None:
    from daemon.control import ServiceError
    from daemon.database import SchemaError
    from daemon.listen import AlreadyServedError, run

    try:
        run(folder)
    except (AlreadyServedError, ServiceError, SchemaError) as error:
        raise click.ClickException(str(error)) from error


def _daemonize(folder: Path) -> None:
    from daemon import supervisor
    from daemon.settings import Settings

    with connect(folder) as service:
        if service.daemon is not None:
            raise click.ClickException(
                f"{folder} is served already, by {service.daemon}; "
                f"see `{program()} status {folder}`"
            )
        settings = Settings.from_rows(service.call("settings")["rows"])
    # -P: it runs in the folder, which is the user's and may have modules with names of ours.
    program_line = [sys.executable, "-P", "-m", "daemon.cli", "listen", str(folder)]
    try:
        configuration = supervisor.render(folder, settings, program_line)
        supervisor.start(folder)
    except supervisor.SupervisorError as error:
        raise click.ClickException(str(error)) from error
    click.echo(
        f"The daemon runs under Supervisor. `supervisorctl -c {configuration} status` "
        "shows it; restart and stop work likewise."
    )
