"""`runtable notify`: tell the daemon that a run's data has arrived."""

import click

from daemon.cli.folder import PROPOSAL, connect, dir_argument, program, quote, served_folder


@click.command("notify")
@dir_argument
@click.option("--run", type=click.IntRange(min=0), required=True, metavar="N", help="The run.")
@click.option(
    "--data", type=click.Choice(["raw", "proc"]), required=True, help="Which of its data is there."
)
@click.option(
    "--proposal",
    type=PROPOSAL,
    metavar="N",
    help="The run's proposal. Default: the database's.",
)
def command(directory: str | None, run: int, data: str, proposal: int | None) -> None:
    """Tell the daemon that a run's data has arrived.

    Returns when the daemon has stored the event, so that it cannot be lost any more.
    """
    folder = served_folder(directory)
    arguments = {"run": run, "data": data}
    if proposal is not None:
        arguments["proposal"] = proposal
    with connect(folder) as service:
        if service.daemon is None:
            raise click.ClickException(
                f"no daemon answers for {folder}; start it with "
                f"`{program()} listen {quote(folder)} --daemonize`"
            )
        event = service.call("event", **arguments)["event"]
    click.echo(f"Stored: {data} data of run {run}, proposal {event['proposal']}")
