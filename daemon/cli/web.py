"""`runtable web`: serve the HTTP interface of a database."""

import os
import signal
import sys
from pathlib import Path

import click

from daemon.cli.folder import DATABASE, database_folder, dir_argument

NEEDED = ("fastapi", "uvicorn")


@click.command("web")
@dir_argument
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="The port to listen on. Default: the setting web_port, or a free one.",
)
@click.option(
    "--host",
    help="The address to listen on. Default: the setting web_host, which is this machine alone.",
)
@click.option(
    "--name",
    "names",
    metavar="HOST",
    multiple=True,
    help="Another name by which it is called, such as a proxy's; may be given again.",
)
def command(
    directory: str | None, port: int | None, host: str | None, names: tuple[str, ...]
) -> None:
    """Serve the HTTP interface until Ctrl-C or SIGTERM.

    Prints its address, with a token that holds for as long as this runs. The daemon is asked for
    everything that changes something, and may be restarted meanwhile.
    """
    folder = database_folder(directory)
    _check_installed()
    import logging

    from ctxlib.processes import die_with_parent
    from daemon.settings import Settings
    from daemon.web.server import WebError, serve

    supervised = "SUPERVISOR_ENABLED" in os.environ
    if supervised:  # when Supervisor is killed, the next one starts another
        die_with_parent(os.getppid(), signal.SIGTERM)
    settings = Settings.from_rows(_settings(folder))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        serve(
            folder,
            host=settings.web_host if host is None else host,
            port=settings.web_port if port is None else port,
            names=names,
            say=_say_without_token if supervised else click.echo,
            patient=supervised,
        )
    except WebError as error:
        raise click.ClickException(str(error)) from error


def _say_without_token(url: str) -> None:
    """What others may read in the log; `web.json` has the token."""
    click.echo(f"listening at {url.partition('?')[0]}")


def _settings(folder: Path) -> dict[str, object]:
    """The rows of settings, read as any reader does: the daemon may be away."""
    import sqlite3
    from contextlib import closing

    path = folder / DATABASE
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=20)) as database:
        return dict(database.execute("SELECT key, value FROM metameta").fetchall())


def missing() -> list[str]:
    """The packages that the web interface needs, and that are not installed here."""
    from importlib.util import find_spec

    return [name for name in NEEDED if find_spec(name) is None]


def _check_installed() -> None:
    if names := missing():
        raise click.ClickException(
            f"the web interface needs {' and '.join(names)}, which {sys.executable} has not: "
            "`pip install 'runtable[web]'` there"
        )
