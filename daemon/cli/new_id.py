"""`runtable new-id`: give a copy of a database an identity of its own."""

import click

from daemon.cli.folder import connect, database_folder, dir_argument


@click.command("new-id")
@dir_argument
def command(directory: str | None) -> None:
    """Give the database a new random id.

    For a folder that was copied: two databases of one id are taken for one by what listens to
    their updates.
    """
    with connect(database_folder(directory)) as service:
        answer = service.call("new-id")
    click.echo(f"The database's id is {answer['db_id']} (was {answer['was'] or 'not set'})")
