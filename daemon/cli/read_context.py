"""`runtable read-context`: check the context file and register its variables."""

import sys
from pathlib import Path
from typing import Any

import click

from daemon.cli.folder import DATABASE, connect, database_folder, dir_argument, existing_folder
from daemon.cli.output import plural, print_table
from daemon.sandbox import Interpreter


@click.command("read-context")
@dir_argument
@click.option(
    "--check",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Only check FILE, in the Python of the database in DIR, and change nothing.",
)
def command(directory: str | None, check: Path | None) -> None:
    """Check context.py and put its variables into the table.

    Every problem is listed with its line, every variable with its title. Exits with 1 when the file
    cannot be executed at all; a problem of one variable costs that variable and what depends on it.
    """
    if check is not None:
        _tell(check, _checked(check, existing_folder(directory)), "it cannot be executed")
        return
    folder = database_folder(directory)
    with connect(folder) as service:
        found = service.call("read-context")
    broken = "context.py cannot be executed; events wait until it can, and nothing was changed"
    _tell(folder / "context.py", found, broken)


def _checked(file: Path, folder: Path) -> dict[str, Any]:
    """What `read-context` would say of `file`, without a database or beside one."""
    import asyncio

    import ctxlib
    from daemon.backends.named import Backends
    from daemon.context_file import check

    rows: dict[str, Any] = {}
    backends = None  # those of a database are known where it is
    if (folder / DATABASE).exists():
        with connect(folder) as service:
            rows = service.call("settings")["rows"]
        backends = Backends(folder).for_variables()
    python = rows.get("context_python") or sys.executable
    interpreter = Interpreter.of(python, rows.get("sandbox_args"), folder)
    library = Path(ctxlib.__file__).parent.parent
    found = asyncio.run(check(file.absolute(), library, interpreter, backends))
    broken = found.get("broken")
    return {
        "variables": found.get("variables", []),
        "problems": broken or found["problems"],
        "broken": broken is not None,
    }


def _tell(file: Path, found: dict[str, Any], broken: str) -> None:
    """Print the problems of `file`, then what it has; `broken` is said when it has nothing."""
    from ctxlib.errors import Problem

    for problem in found["problems"]:
        click.echo(f"{file}: {Problem.from_json(problem)}", err=True)
    if found["broken"]:
        raise click.ClickException(broken)
    variables, problems = found["variables"], len(found["problems"])
    if variables:
        print_table(["variable", "title"], [[v["name"], v["title"]] for v in variables])
    click.echo(f"{plural(len(variables), 'variable')}, {plural(problems, 'problem')}")
