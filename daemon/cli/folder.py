"""The database folder that a command is about, and the connection to whoever serves it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

if TYPE_CHECKING:  # imported where needed, because every command's start would pay for it
    from daemon.cli.connection import Connection

F = TypeVar("F", bound=Callable[..., Any])

DATABASE = "runs.sqlite"
LISTENER = "listener.sqlite"
PROPOSAL = click.IntRange(1, 999_999)
"""What a proposal's number can be, as in `settings`, which is not imported for that alone."""


class Connect(Protocol):
    """How connections are made: `daemon.cli.connection.connect`, or a test's own way."""

    def __call__(
        self, folder: Path, *, create: int | None = None
    ) -> AbstractContextManager["Connection"]:
        """A connection to whoever may write `folder`; `create` as there."""


def dir_argument(function: F) -> F:
    """Give a command the argument DIR, as the parameter `directory`."""
    return click.argument("directory", metavar="[DIR]", required=False)(function)


def in_option(function: F) -> F:
    """Give a command whose arguments mean something else the option --in, as `directory`."""
    return click.option(
        "--in",
        "directory",
        metavar="DIR",
        help="The database folder or proposal number. Default: the current folder.",
    )(function)


def program() -> str:
    """The name that this program was called by, for messages that name a command."""
    return click.get_current_context().find_root().info_name or "runtable"


def debugging() -> bool:
    """Whether the debug log is to be shown, by the option --debug before the command."""
    return bool(click.get_current_context().find_root().params.get("debug"))


def quote(path: Path | str) -> str:
    """`path` as a shell takes it, for commands that people copy."""
    import shlex

    return shlex.quote(str(path))


def existing_folder(directory: str | None) -> Path:
    """The folder that DIR names; an error when it is not there."""
    from ctxlib.places import NotFoundError, find_folder

    try:
        folder = find_folder(directory)
    except NotFoundError as error:
        raise click.ClickException(str(error)) from error
    if not folder.is_dir():
        raise click.ClickException(
            f"{folder} is no folder; `{program()} init {quote(folder)} --proposal N` makes one"
        )
    return folder


def served_folder(directory: str | None) -> Path:
    """The folder that DIR names: a database's, or that of a listener for many of them."""
    folder = existing_folder(directory)
    return folder if (folder / LISTENER).exists() else database_folder(directory)


def database_folder(directory: str | None) -> Path:
    """The folder that DIR names; an error when no database is in it."""
    folder = existing_folder(directory)
    if not (folder / DATABASE).exists():
        if (folder / LISTENER).exists():
            raise click.ClickException(
                f"{folder} is a listener's folder and has no database; name one of those that "
                f"`{program()} listener databases --in {quote(folder)}` lists"
            )
        raise click.ClickException(
            f"no database in {folder} ({DATABASE} is missing); "
            f"`{program()} proposal N` makes a blank one there, `{program()} init DIR` a new folder"
        )
    return folder


class Misconfigured(click.ClickException):
    """A configuration cannot be used: the command ends with 2, as for bad usage."""

    exit_code = 2


@contextmanager
def connect(folder: Path, *, create: int | None = None) -> Iterator["Connection"]:
    """A connection to the daemon of `folder`, or to a service in this process when there is none.

    `create` makes a blank database for that proposal when there is none and no daemon runs.
    What the service refuses ends the command with the service's words. A test puts its own way
    to connect into click's `obj`.
    """
    from daemon.control import BAD_CONFIGURATION, ServiceError

    factory: Connect | None = click.get_current_context().obj
    if factory is None:
        from daemon.cli import connection
        from daemon.log import log_to

        log_to(folder, terminal=False, debug=debugging())
        factory = connection.connect
    try:
        with factory(folder, create=create) as service:
            yield service
    except ServiceError as error:
        refused = Misconfigured if error.code == BAD_CONFIGURATION else click.ClickException
        raise refused(str(error)) from error
