"""The command line: `runtable`, and `damnit` as the same program.

Each command is a module of its own, imported when it is asked for, so that nothing heavy stands
between a person and an answer.
"""

import errno
import importlib

import click

COMMANDS = {
    "init": "init",
    "proposal": "proposal",
    "db-config": "db_config",
    "listen": "listen",
    "listener": "listener",
    "notify": "notify",
    "events": "events",
    "status": "status",
    "read-context": "read_context",
    "reprocess": "reprocess",
    "run": "run",
    "jobs": "jobs",
    "backends": "backends",
    "combiner": "combiner",
    "web": "web",
    "token": "token",
    "agent": "agent",
    "gui": "gui",
    "new-id": "new_id",
    "migrate": "migrate",
}
"""Each command's module in this package, in the order in which `--help` lists them."""


class LazyGroup(click.Group):
    """Imports a command's module when the command is named, and words the system's errors."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names of all commands, in the order of a database's life."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command called `cmd_name`, or None when there is none of that name."""
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = importlib.import_module(f"daemon.cli.{module}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that `args` name; the error for an unknown one names the nearest."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            nearest = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
            raise click.UsageError(f"{error.message}{hint}", ctx) from error

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; a file that cannot be used is one line, not a traceback."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if ctx.params.get("debug_repl"):
                from daemon.cli.debug_repl import look_into

                look_into(error)
            if not isinstance(error, OSError) or error.errno == errno.EPIPE:
                raise  # EPIPE: the reader of our output left, and click ends quietly
            where = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(f"{where}{error.strerror or error}") from error


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: ARG001
    if value and not ctx.resilient_parsing:
        from daemon import __version__

        click.echo(f"runtable {__version__}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.option("--debug", is_flag=True, help="Show the debug log on standard error.")
@click.option(
    "--debug-repl",
    is_flag=True,
    help="When something goes wrong, open a Python prompt (IPython's, where it is installed) in "
    "the deepest of our functions, with its variables.",
)
def main(debug: bool, debug_repl: bool) -> None:
    """Fill an experiment's run table by itself, from the variables in context.py.

    DIR is a database folder or a proposal's number; without it, the current folder is meant.
    """


def renamed() -> None:
    """Be the command under its first name, `amore-proto`, which old scripts still call."""
    click.echo(
        "Warning: 'amore-proto' has been renamed to 'damnit'. Please update your scripts.", err=True
    )
    main(prog_name="damnit")
