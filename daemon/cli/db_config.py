"""`runtable db-config`: the settings of a database."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import click

from daemon.cli.folder import connect, database_folder, in_option
from daemon.cli.output import print_table


@click.command("db-config")
@click.argument("key", required=False)
@click.argument("value", required=False)
@click.option("-d", "--delete", is_flag=True, help="Delete KEY, so that its default holds.")
@click.option("--num", is_flag=True, help="VALUE is a number.")
@in_option
def command(
    key: str | None, value: str | None, delete: bool, num: bool, directory: str | None
) -> None:
    """List the settings, show KEY, or set KEY to VALUE.

    Dashes and underscores in KEY are the same. "param.NAME" is the parameter NAME of context.py.
    """
    if delete and (key is None or value is not None):
        raise click.UsageError("--delete needs a KEY, and no VALUE")
    if num and value is None:
        raise click.UsageError("--num needs a KEY and its VALUE")
    with connect(database_folder(directory)) as service:
        settings = service.call("settings")["settings"]
        if key is None:
            _list(settings)
            return
        setting = _find(settings, key, must_exist=value is None and not delete)
        name = setting["key"]
        if delete:
            service.call("delete", key=name)
            _say_deleted(setting)
        elif value is None:
            click.echo(_text(setting["value"]))
        else:
            answer = service.call("set", key=name, value=value, number=num)
            click.echo(f"{name} = {value}")
            if answer.get("note"):
                click.echo(f"Note: {answer['note']}", err=True)


def _list(settings: Iterable[Mapping[str, Any]]) -> None:
    print_table(
        ["key", "value", "default", "meaning"],
        [
            [item["key"], _text(item["value"]), _text(item["default"]), item["meaning"]]
            for item in settings
        ],
    )


def _find(
    settings: Iterable[Mapping[str, Any]], key: str, *, must_exist: bool
) -> Mapping[str, Any]:
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


def _say_deleted(setting: Mapping[str, Any]) -> None:
    if setting["set"]:
        default = _text(setting["default"]) or "no value"
        click.echo(f"Deleted {setting['key']} (was {_text(setting['value'])}; now {default})")
    else:
        click.echo(f"{setting['key']} was not set")


def _text(value: object) -> str:
    return "" if value is None else str(value)
