"""`runtable jobs`: jobs listed and looked at, ended and run again. Without a word more, a list."""

import difflib
import importlib
from pathlib import Path

import click

COMMANDS = {
    "list": ("jobs_list", "command"),
    "show": ("jobs_show", "command"),
    "log": ("jobs_log", "command"),
    "stop": ("jobs_act", "stop"),
    "cancel": ("jobs_act", "cancel"),
    "requeue": ("jobs_act", "requeue"),
    "fail": ("jobs_act", "fail"),
    "cleanup": ("jobs_cleanup", "command"),
}
"""Where each command is: a module of this package, imported when it is named, and its object."""


class JobsGroup(click.Group):
    """Takes what names no command for the arguments of `list`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `list` in front of what is meant for it."""
        if args[:1] == ["--in"] and len(args) > 2 and args[2] in COMMANDS:
            args = [args[2], *args[:2], *args[3:]]  # as all of them but `list` take it
        first = args[0] if args else None
        if first is None or not (first in ctx.help_option_names or self._is_command(first)):
            args = ["list", *args]
        return super().parse_args(ctx, args)

    def _is_command(self, word: str) -> bool:
        """Whether `word` is a command, or looks like one that was mistyped."""
        if word in COMMANDS:
            return True
        folder = word.startswith("-") or Path(word).exists()
        return not folder and bool(difflib.get_close_matches(word, COMMANDS, n=1))

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names of all commands, those that only show something first."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command called `cmd_name`, or None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"daemon.cli.{module}"), name)
        return command


@click.group("jobs", cls=JobsGroup)
def command() -> None:
    """List jobs, look at them, end them, run them again.

    A job processes one run's raw data, its proc data, or both. Without a command, or with a folder
    or options, `list` is meant.
    """
