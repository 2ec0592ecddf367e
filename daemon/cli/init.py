"""`runtable init`: make a database folder for a proposal."""

import re
from pathlib import Path

import click

from daemon.cli.folder import DATABASE, PROPOSAL, program
from daemon.cli.output import plural

CONTEXT = "context.py"


@click.command("init")
@click.argument("directory", metavar="DIR")
@click.option(
    "--proposal",
    type=PROPOSAL,
    metavar="N",
    help="The proposal's number. Needed unless DIR tells it.",
)
@click.option(
    "--context",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Copy this context file instead of the template.",
)
@click.option(
    "--like",
    metavar="DIR",
    help="Take over another database's context file, settings and user-editable columns.",
)
@click.option(
    "--process-existing",
    is_flag=True,
    help="Process the runs that are there already, when the daemon starts.",
)
def command(
    directory: str,
    proposal: int | None,
    context: Path | None,
    like: str | None,
    process_existing: bool,
) -> None:
    """Make a database folder for a proposal.

    It gets a context file to edit and an empty table. DIR is made when it is not there; a
    proposal's number means its usr/Shared/amore. Runs that are there already are left alone
    until they are reprocessed, unless told otherwise.
    """
    from ctxlib.places import NotFoundError, find_folder

    try:
        folder = find_folder(directory)
        other = None if like is None else find_folder(like)
    except NotFoundError as error:
        raise click.ClickException(str(error)) from error
    _refuse_what_is_there(folder)
    number = proposal if proposal is not None else _proposal_of(directory, folder)
    text = _context_text(context, other)

    from daemon.cli.new_database import make_database  # late: with it comes the whole service

    seen = make_database(folder, number, text, like=other, mark_runs=not process_existing)
    click.echo(f"Made {folder} for proposal {number}, with {CONTEXT} to edit and an empty table.")
    if seen:
        click.echo(
            f"{plural(seen, 'run folder')} that were there already are left alone; "
            f"`{program()} reprocess all --in {folder}` processes them."
        )
    click.echo(f"`{program()} listen {folder} --daemonize` starts the daemon.")


def _refuse_what_is_there(folder: Path) -> None:
    if (folder / DATABASE).exists():
        raise click.ClickException(
            f"there is a database in {folder} already; `{program()} db-config` changes its "
            f"settings. To start from scratch, delete {DATABASE} and extracted_data/, then "
            f"`{program()} proposal N` makes a blank one"
        )
    if (folder / CONTEXT).exists():
        raise click.ClickException(
            f"there is a {CONTEXT} in {folder} already, which stays as it is; "
            f"`{program()} proposal N --in {folder}` makes a blank database beside it"
        )


def _proposal_of(directory: str, folder: Path) -> int:
    """The proposal that DIR tells: as a number, or by a folder like p001234 in its path."""
    if directory.removeprefix("p").isdecimal():
        return int(directory.removeprefix("p"))
    for parent in (folder, *folder.parents):
        if match := re.fullmatch(r"p(\d{6})", parent.name, re.ASCII):
            return int(match[1])
    raise click.UsageError(f"{folder} is in no proposal's folder: give its number as --proposal N")


def _context_text(context: Path | None, other: Path | None) -> bytes:
    """The context file to begin with: the one given, the other database's, or the template."""
    if context is not None:
        return context.read_bytes()
    if other is not None:
        return (other / CONTEXT).read_bytes()
    from importlib.resources import files

    return files("daemon").joinpath("templates", CONTEXT).read_bytes()
