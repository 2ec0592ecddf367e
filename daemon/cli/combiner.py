"""`runtable combiner`: put results that were left over into the run files."""

import click

from daemon.cli.folder import connect, database_folder, dir_argument, program, quote
from daemon.cli.following import follow, say_interrupted
from daemon.cli.output import plural
from daemon.cli.progress import Tally, view

INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended, as shells have it."""


@click.group("combiner")
def command() -> None:
    """Put results that were left over into the run files."""


@command.command("run")
@dir_argument
def run(directory: str | None) -> None:
    """Say who combines: the daemon does, and nothing else is to be run for it."""
    folder = quote(database_folder(directory))
    click.echo(
        f"The daemon combines results itself, when each job has ended: "
        f"`{program()} listen {folder} --daemonize` starts it, `{program()} status {folder}` shows "
        f"it, and `{program()} combiner now {folder}` takes in what others have left."
    )


@command.command("now")
@dir_argument
def now(directory: str | None) -> None:
    """Combine results that are not in the run files.

    They are those of jobs whose run file could not be written, and files (*.ready.h5 in
    extracted_data) that DAMNIT's own jobs have left: end its combiner first. Exits with 1 when
    something could not be combined.
    """
    folder = database_folder(directory)
    tally = Tally()
    with connect(folder) as service:
        answer = service.call("combine")
        for left in answer["left"]:
            click.echo(f"Left as it is: {left['what']}: {left['why']}", err=True)
        try:
            with view(tally) as shown:
                follow(service, folder, answer["jobs"], tally, shown)
        except KeyboardInterrupt:
            say_interrupted(service, tally)
            raise click.exceptions.Exit(INTERRUPTED) from None
    combined = [job for job in tally.jobs.values() if job.went_well]
    click.echo(f"Combined the results of {plural(len(combined), 'job')}")
    if answer["left"] or len(combined) < len(tally.jobs):
        raise click.exceptions.Exit(1)
