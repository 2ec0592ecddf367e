"""`runtable gui`: open the page of a database in the browser."""

import json
from pathlib import Path

import click

from daemon.cli.folder import database_folder, dir_argument, program, quote

ADDRESS = "web.json"
"""Where the program that serves the page leaves its address, {"url"}, in the database folder."""


@click.command("gui")
@dir_argument
@click.option(
    "--software-opengl",
    is_flag=True,
    help="Changes nothing; taken because notes for desktop programs have it.",
)
def command(directory: str | None, software_opengl: bool) -> None:  # noqa: ARG001 - see its help
    """Open the table's page in the browser.

    The address is shown too, for a browser on another machine.
    """
    url = _address(database_folder(directory))
    click.echo(url)
    import webbrowser

    if not webbrowser.open(url):
        click.echo("No browser could be opened here; open the address in yours.", err=True)


def _supervised(folder: Path) -> str:
    """Where to look when it runs under Supervisor, or should."""
    log = folder / "web.log"
    return f" (what it said under Supervisor is in {log})" if log.exists() else ""


def _address(folder: Path) -> str:
    path = folder / ADDRESS
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise click.ClickException(
            f"no page is served for {folder}: {ADDRESS}, where the program that serves it leaves "
            f"its address, is not there; start it with `{program()} web {quote(folder)}`"
            f"{_supervised(folder)}. From Python, RunTable of ctxlib reads the table; DAMNIT's own "
            "desktop program opens the folder as well"
        ) from None
    try:
        url = json.loads(text)["url"]
    except (ValueError, TypeError, KeyError) as error:
        raise click.ClickException(
            f'{path} has no address: it should hold {{"url": ...}}; start the program that serves '
            "the page again"
        ) from error
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise click.ClickException(f"{path} has {url!r}, which is no address of a page")
    return url
