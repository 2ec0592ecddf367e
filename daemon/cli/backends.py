"""`runtable backends`: the ways to run jobs, and the files that configure them."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from daemon.cli.backends_test import test
from daemon.cli.folder import Misconfigured, existing_folder, in_option, program, quote

if TYPE_CHECKING:  # imported where needed, because every command's start would pay for it
    from daemon.backends.configurations import BackendConfig
    from daemon.backends.configurations.files import Format

type_option = click.option(
    "--backend-type", metavar="TYPE", required=True, help="A type, as `backends list` shows them."
)


@click.group("backends")
def command() -> None:
    """List, check and make configurations: where jobs run.

    A configuration is a YAML or JSON file, or one line: TYPE:KEY=VALUE|KEY=VALUE. Those that a
    database has names for are files in its folder backends/.
    """


command.add_command(test)


@command.command("list")
@in_option
def show(directory: str | None) -> None:
    """List the types, and a database's configurations."""
    from daemon.backends.configurations.registry import kinds, without_manager
    from daemon.cli.output import print_table

    folder = existing_folder(directory)
    rows = []
    for kind in kinds().values():
        problem = kind.problem or (kind.config and without_manager(kind.config))
        about = ((kind.config and kind.config.__doc__) or "").partition("\n")[0]
        rows.append([kind.name, kind.package, problem or "ready", about])
    print_table(["type", "package", "state", "what"], rows)
    _show_named(folder)


def _show_named(folder: Path) -> None:
    from daemon.backends.configurations import ConfigurationError, files
    from daemon.backends.configurations.registry import host_problems
    from daemon.cli.output import print_table

    rows = []
    for name in files.named(folder):
        try:
            config = files.read_named(folder, name)
        except (ConfigurationError, OSError) as error:
            rows.append([name, "?", f"cannot be used: {error}"])
        else:
            problems = host_problems(config)
            rows.append([name, config.type, "; ".join(problems) or "ready"])
    if rows:
        click.echo(f"\nConfigurations in {folder / files.FOLDER}")
        print_table(["name", "type", "state"], rows)


@command.command("validate")
@click.argument("file")
@click.option("--backend-type", metavar="TYPE", help="The type, for a file that names none.")
def validate(file: str, backend_type: str | None) -> None:
    """Check a configuration.

    FILE is a file, the name of one of the database in this folder, or a configuration in one line.
    What is missing on this machine alone is shown, and does not make it wrong.
    """
    from daemon.backends.configurations import ConfigurationError, files
    from daemon.backends.configurations.registry import host_problems, without_manager

    expected = None if backend_type is None else _type(backend_type)
    try:
        config = files.given(file, Path.cwd(), expected)
    except ConfigurationError as error:
        raise _refused(file, error.problems) from error
    except FileNotFoundError as error:
        raise click.UsageError(f"{file} is not there") from error
    click.echo(f"{file} is right")
    _describe(config)
    problems = host_problems(config)
    if words := without_manager(type(config)):
        problems.append(f"{config.type} cannot run jobs: {words}")
    for problem in problems:
        click.echo(f"On this machine: {problem}", err=True)


def _describe(config: "BackendConfig") -> None:
    """Show what is set, but of environment variables their names alone."""
    click.echo(f"  type: {config.type}")
    for name, value in config.model_dump(mode="json", exclude={"type"}).items():
        if name == "timeout" or value != type(config).model_fields[name].get_default(
            call_default_factory=True
        ):
            shown = ", ".join(value) if isinstance(value, dict) else value
            click.echo(f"  {name}: {shown}")


@command.command("schema")
@type_option
@click.option("--format", "spelling", type=click.Choice(["json", "yaml"]), default="json")
@click.option("--examples", is_flag=True, help="With examples.")
def schema(backend_type: str, spelling: "Format", examples: bool) -> None:
    """Print the JSON schema of a type."""
    from daemon.backends.configurations import files, templates

    found = templates.schema(_type(backend_type), examples)
    click.echo(files.write(found, spelling), nl=False)


@command.command("create")
@type_option
@click.option("--output", type=click.Path(path_type=Path), help="The file. Default: print it.")
@click.option(
    "--format",
    "spelling",
    type=click.Choice(["yaml", "json", "uri"]),
    help="The spelling. Default: as the file's name has it, else yaml.",
)
@click.option("--with-examples", is_flag=True, help="An example instead of all fields.")
def create(
    backend_type: str, output: Path | None, spelling: "Format | None", with_examples: bool
) -> None:
    """Make a configuration to start from.

    It has every field with its meaning and default; with examples, what one would write by hand.
    """
    from daemon.backends.configurations import ConfigurationError, files, templates

    suffix = output.suffix.lower() if output is not None else ""
    chosen = spelling or files.FORMATS.get(suffix, "yaml")
    make = templates.example if with_examples else templates.template
    try:
        text = make(_type(backend_type), chosen)
    except ConfigurationError as error:
        raise _refused(f"The example of {backend_type}", error.problems) from error
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        files.save(output, text)
    except FileExistsError as error:
        raise click.ClickException(f"{output} is there already: remove it first") from error
    click.echo(f"Wrote {output}; `{program()} backends validate {quote(output)}` checks it")


def _refused(what: str, problems: list[str]) -> Misconfigured:
    return Misconfigured("\n".join([f"{what} cannot be used:", *(f"  {p}" for p in problems)]))


def _type(name: str) -> "type[BackendConfig]":
    from daemon.backends.configurations import ConfigurationError
    from daemon.backends.configurations.registry import config_class

    try:
        return config_class(name)
    except ConfigurationError as error:
        raise click.UsageError("; ".join(error.problems)) from error
