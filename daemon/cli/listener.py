"""`runtable listener`: the databases that one listener serves, and its settings.

These commands write `listener.sqlite` themselves; a listener that runs takes it over in a second.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from daemon.cli.folder import DATABASE, program, quote
from daemon.cli.setting import Setting, carry_out, check_usage, setting_arguments

if TYPE_CHECKING:  # imported where needed, because every command's start would pay for it
    from daemon.listener.registry import Registry

F = TypeVar("F", bound=Callable[..., Any])


def _in_option(function: F) -> F:
    return click.option(
        "--in",
        "listener",
        metavar="DIR",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="The listener's folder. Default: the current folder.",
    )(function)


@click.group("listener")
def command() -> None:
    """Serve many databases by one program.

    The folder in which these commands are used becomes the listener's; `listen DIR` runs it.
    """


@command.command("config")
@setting_arguments
@_in_option
def config(
    key: str | None, value: str | None, delete: bool, num: bool, listener: Path | None
) -> None:
    """List the listener's settings, show KEY, or set KEY to VALUE."""
    check_usage(key, value, delete=delete, num=num)
    carry_out(_Stored(_registry(listener)), key, value, delete=delete, num=num)


class _Stored:
    """The settings of a listener, in its file."""

    def __init__(self, registry: "Registry") -> None:
        self._registry = registry

    def listed(self) -> Sequence[Setting]:
        from daemon.listener.settings import ListenerSettings

        rows = _asked(self._registry.settings)
        values, warnings = ListenerSettings.from_rows(rows)
        for warning in warnings:
            click.echo(f"Warning: {warning}", err=True)
        return values.listed(rows)

    def set(self, key: str, text: str, *, number: bool) -> Mapping[str, Any]:
        from daemon.listener.settings import ListenerSettings
        from daemon.typed_settings import SettingError

        try:
            value = ListenerSettings.parse(key, text, number)
        except SettingError as error:
            raise click.ClickException(str(error)) from error
        _asked(lambda: self._registry.set(key, value))
        return {"value": value}

    def delete(self, key: str) -> None:
        _asked(lambda: self._registry.delete(key))


@command.command("add")
@click.argument("proposal")
@click.argument("db_dir", metavar="[DIR]", required=False)
@_in_option
def add(proposal: str, db_dir: str | None, listener: Path | None) -> None:
    """Serve the database in DIR, by default the proposal's own, for PROPOSAL."""
    number = _proposal(proposal)
    folder = _official(number) if db_dir is None else _absolute(db_dir)
    registry = _registry(listener)
    if not _asked(lambda: registry.add(number, folder)):
        click.echo(f"Proposal {number} at {folder} is there already")
        return
    click.echo(f"Added proposal {number} at {folder}")
    if not (folder / DATABASE).exists():
        click.echo(
            f"Note: no database is there yet; it is served as soon as "
            f"`{program()} init {quote(folder)} --proposal {number}` has made one",
            err=True,
        )


@command.command("rm")
@click.argument("db_dir", metavar="DIR")
@_in_option
def rm(db_dir: str, listener: Path | None) -> None:
    """Serve the database in DIR no more. Its files stay."""
    folder = _absolute(db_dir)
    registry = _registry(listener)
    if not _asked(lambda: registry.remove(folder)):
        raise click.ClickException(
            f"no database at {folder} is served; `{program()} listener databases` lists what is"
        )
    click.echo(f"Removed database at {folder}")


@command.command("databases")
@_in_option
def databases(listener: Path | None) -> None:
    """List the databases by proposal."""
    from itertools import groupby

    registry = _registry(listener)
    for proposal, some in groupby(_asked(registry.databases), lambda known: known.proposal):
        lines = [f"{known.folder}{'' if known.official else ' (unofficial)'}" for known in some]
        # A single one is on the same line, as scripts know it from DAMNIT.
        before = " " if len(lines) == 1 else "\n   "
        click.echo(f"p{proposal}:{before}" + "\n   ".join(lines))


def _registry(listener: Path | None) -> "Registry":
    from daemon.listener.registry import Registry

    registry = Registry((listener or Path.cwd()).absolute())
    _asked(registry.make)
    return registry


T = TypeVar("T")


def _asked(work: Callable[[], T]) -> T:
    """What `work` returns; its RegistryError ends the command in words."""
    from daemon.listener.registry import RegistryError

    try:
        return work()
    except RegistryError as error:
        raise click.ClickException(str(error)) from error


def _proposal(text: str) -> int:
    digits = text.lower().removeprefix("p")
    if not digits.isdecimal() or not 1 <= int(digits) <= 999_999:
        raise click.ClickException(f"{text!r} is no proposal number; give one as 1234 or p001234")
    return int(digits)


def _absolute(directory: str) -> Path:
    return Path(directory).expanduser().resolve()


def _official(proposal: int) -> Path:
    from ctxlib.places import DATABASE_IN_PROPOSAL, NotFoundError, find_proposal

    try:
        return find_proposal(proposal) / DATABASE_IN_PROPOSAL
    except NotFoundError as error:
        raise click.ClickException(f"{error}; or name the database's folder as DIR") from error
