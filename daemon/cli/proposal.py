"""`runtable proposal`: which proposal a folder's runs belong to; makes a blank database."""

import click

from daemon.cli.folder import (
    DATABASE,
    PROPOSAL,
    connect,
    database_folder,
    existing_folder,
    in_option,
)


@click.command("proposal")
@click.argument("number", metavar="[N]", type=PROPOSAL, required=False)
@in_option
def command(number: int | None, directory: str | None) -> None:
    """Show the proposal, or set it to N.

    In a folder without a database this makes a blank one for proposal N.
    """
    if number is None:
        _show(directory)
        return
    folder = existing_folder(directory)
    is_new = not (folder / DATABASE).exists()
    with connect(folder, create=number) as service:
        if is_new:
            service.call("create", proposal=number)
            click.echo(f"Made a blank database for proposal {number} in {folder}")
            return
        before = service.call("settings")["rows"].get("proposal")
        service.call("set", key="proposal", value=str(number))
    was = "" if before is None else f" (was {before})"
    click.echo(f"Changed proposal to {number}{was}")


def _show(directory: str | None) -> None:
    with connect(database_folder(directory)) as service:
        current = service.call("settings")["rows"].get("proposal")
    click.echo(f"Current proposal number: {'not set' if current is None else current}")
