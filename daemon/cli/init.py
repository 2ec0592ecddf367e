"""`runtable init`: make a database folder for a proposal."""

import re
from pathlib import Path

import click

from daemon.cli.folder import DATABASE, PROPOSAL, program, quote
from daemon.cli.output import plural

CONTEXT = "context.py"
TEMPLATES = {"minimal": CONTEXT, "xfel": "xfel.py", "hdf5": "hdf5.py", "imaging": "imaging.py"}
"""The starter context files, and what they are called in templates/."""
SOURCES = {"hdf5": "hdf5", "imaging": "hdf5"}
"""The setting `source` for templates that are not for its default."""


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
    help="Copy this context file instead of a template.",
)
@click.option(
    "--template",
    type=click.Choice(list(TEMPLATES)),
    help="Begin with this context file: minimal, or for an instrument at European XFEL, for plain "
    "HDF5 or NeXus files, or for images in them.",
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
    template: str | None,
    like: str | None,
    process_existing: bool,
) -> None:
    """Make a database folder for a proposal.

    It gets a context file to edit and an empty table. DIR is made when it is not there; a
    proposal's number means its usr/Shared/amore. Runs that are there already are left alone
    until they are reprocessed, unless told otherwise.
    """
    if context is not None and template is not None:
        raise click.UsageError("give --context or --template: one context file is to begin with")
    from ctxlib.places import NotFoundError, find_folder

    try:
        folder = find_folder(directory)
        other = None if like is None else find_folder(like)
    except NotFoundError as error:
        raise click.ClickException(str(error)) from error
    _refuse_what_is_there(folder)
    number = proposal if proposal is not None else _proposal_of(directory, folder)
    text = _context_text(context, template, other)
    settings = {"source": SOURCES[template]} if template in SOURCES else {}

    from daemon.cli.new_database import make_database  # late: with it comes the whole service

    seen = make_database(folder, number, text, settings, like=other, mark_runs=not process_existing)
    click.echo(f"Made {folder} for proposal {number}, with {CONTEXT} to edit and an empty table.")
    for key, value in settings.items():
        click.echo(f"The setting {key} is {value}, as the template needs it.")
    if seen:
        were, are, them = ("was", "is", "it") if seen == 1 else ("were", "are", "them")
        click.echo(
            f"{plural(seen, 'run folder')} that {were} there already {are} left alone; "
            f"`{program()} reprocess all --in {quote(folder)}` processes {them}."
        )
    click.echo(f"`{program()} listen {quote(folder)} --daemonize` starts the daemon.")


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
            f"`{program()} proposal N --in {quote(folder)}` makes a blank database beside it"
        )


def _proposal_of(directory: str, folder: Path) -> int:
    """The proposal that DIR tells: as a number, or by a folder like p001234 in its path."""
    if directory.removeprefix("p").isdecimal():
        return int(directory.removeprefix("p"))
    for parent in (folder, *folder.parents):
        if match := re.fullmatch(r"p(\d{6})", parent.name, re.ASCII):
            return int(match[1])
    raise click.UsageError(f"{folder} is in no proposal's folder: give its number as --proposal N")


def _context_text(context: Path | None, template: str | None, other: Path | None) -> bytes:
    """The context file to begin with: the one given, the other database's, or a template."""
    if context is not None:
        return context.read_bytes()
    if other is not None and template is None:
        return (other / CONTEXT).read_bytes()
    from importlib.resources import files

    name = TEMPLATES[template or "minimal"]
    return files("daemon").joinpath("templates", name).read_bytes()
