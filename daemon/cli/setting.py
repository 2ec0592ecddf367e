"""What `db-config` and `listener config` share: settings listed, shown, set and deleted."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import click

from daemon.cli.output import print_table

F = TypeVar("F", bound=Callable[..., Any])
Setting = Mapping[str, Any]
"""A setting as it is listed: `key`, `value`, `default`, `meaning`, and whether it is `set`."""


class Settings(Protocol):
    """The settings of a database or a listener."""

    def listed(self) -> Sequence[Setting]:
        """All of them."""

    def set(self, key: str, text: str, *, number: bool) -> Mapping[str, Any]:
        """Set one; the answer has its `value` and, if there is something to say of it, a `note`."""

    def delete(self, key: str) -> None:
        """Take one back to its default."""


def setting_arguments(function: F) -> F:
    """Give a command the arguments KEY and VALUE and the options --delete and --num."""
    for decorate in (
        click.option("--num", is_flag=True, help="VALUE is a number."),
        click.option("-d", "--delete", is_flag=True, help="Delete KEY, so that its default holds."),
        click.argument("value", required=False),
        click.argument("key", required=False),
    ):
        function = decorate(function)
    return function


def check_usage(key: str | None, value: str | None, *, delete: bool, num: bool) -> None:
    """Refuse what does not go together."""
    if delete and (key is None or value is not None):
        raise click.UsageError("--delete needs a KEY, and no VALUE")
    if num and value is None:
        raise click.UsageError("--num needs a KEY and its VALUE")


def carry_out(
    settings: Settings, key: str | None, value: str | None, *, delete: bool, num: bool
) -> None:
    """List the settings, or show, set or delete one."""
    listed = settings.listed()
    if key is None:
        _list(listed)
        return
    setting = _find(listed, key, must_exist=value is None and not delete)
    name = setting["key"]
    if delete:
        settings.delete(name)
        _say_deleted(setting)
    elif value is None:
        click.echo(_text(setting["value"]))
    else:
        answer = settings.set(name, value, number=num)
        click.echo(f"{name} = {answer['value']}")
        if answer.get("note"):
            click.echo(f"Note: {answer['note']}", err=True)


def _list(settings: Iterable[Setting]) -> None:
    print_table(
        ["key", "value", "default", "meaning"],
        [
            [item["key"], _text(item["value"]), _text(item["default"]), item["meaning"]]
            for item in settings
        ],
    )


def _find(settings: Iterable[Setting], key: str, *, must_exist: bool) -> Setting:
    """The setting `key`; a parameter that is neither set nor declared, if it need not exist."""
    by_name = {item["key"]: item for item in settings}
    name = key.replace("-", "_")
    if name not in by_name and name.startswith("param.") and not must_exist:
        return {"key": name, "value": None, "default": None, "set": False}
    if name not in by_name:
        nearest = difflib.get_close_matches(name, by_name, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else "without a KEY, all are listed"
        raise click.ClickException(f"there is no setting {name!r}: {hint}")
    return by_name[name]


def _say_deleted(setting: Setting) -> None:
    if setting["set"]:
        default = _text(setting["default"]) or "no value"
        click.echo(f"Deleted {setting['key']} (was {_text(setting['value'])}; now {default})")
    else:
        click.echo(f"{setting['key']} was not set")


def _text(value: object) -> str:
    return "" if value is None else str(value)
