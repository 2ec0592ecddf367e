"""`runtable read-context`: check the context file and register its variables."""

import click

from daemon.cli.folder import connect, database_folder, dir_argument
from daemon.cli.output import plural


@click.command("read-context")
@dir_argument
def command(directory: str | None) -> None:
    """Check context.py and put its variables into the table.

    Every problem is listed with its line. Exits with 1 when the file cannot be executed at all;
    a problem of one variable costs that variable and what depends on it.
    """
    from ctxlib.errors import Problem

    folder = database_folder(directory)
    with connect(folder) as service:
        found = service.call("read-context")
    problems = found["problems"]
    for problem in problems:
        click.echo(f"{folder / 'context.py'}: {Problem.from_json(problem)}", err=True)
    if found["broken"]:
        raise click.ClickException(
            "context.py cannot be executed; events wait until it can, and nothing was changed"
        )
    click.echo(f"{plural(len(found['variables']), 'variable')}, {plural(len(problems), 'problem')}")
