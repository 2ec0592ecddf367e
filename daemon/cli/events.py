"""`runtable events`: what was announced, and what could not be understood."""

import click

from daemon.cli.folder import connect, dir_argument, served_folder
from daemon.cli.output import local_time, print_table

LIMIT = 50


@click.command("events")
@dir_argument
def command(directory: str | None) -> None:
    """List the latest events and the dead letters.

    Dead letters are messages that could not be understood; each is shown with the reason.
    """
    with connect(served_folder(directory)) as service:
        found = service.call("events", limit=LIMIT)
    if found["events"]:
        print_table(
            ["time", "proposal", "run", "data", "source", "state"],
            [
                [
                    local_time(event["time"]),
                    event["proposal"],
                    event["run"],
                    event["data"],
                    event["source"],
                    event["state"],
                ]
                for event in found["events"]
            ],
        )
    else:
        click.echo("No events so far.")
    if found["dead_letters"]:
        click.echo("\nDead letters:")
        print_table(
            ["time", "source", "error", "message"],
            [
                [local_time(letter["time"]), letter["source"], letter["error"], letter["payload"]]
                for letter in found["dead_letters"]
            ],
        )
