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

    Dashes and underscores in KEY are the same.
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
        setting = _find(settings, key)
        name = setting["key"]
        if delete:
            service.call("delete", key=name)
            _say_deleted(setting)
        elif value is None:
            click.echo(_text(setting["value"]))
        else:
            service.call("set", key=name, value=value, number=num)
            click.echo(f"{name} = {value}")


def _list(settings: Iterable[Mapping[str, Any]]) -> None:
    print_table(
        ["key", "value", "default", "meaning"],
        [
            [item["key"], _text(item["value"]), _text(item["default"]), item["meaning"]]
            for item in settings
        ],
    )


def _find(settings: Iterable[Mapping[str, Any]], key: str) -> Mapping[str, Any]:
    by_name = {item["key"]: item for item in settings}
    name = key.replace("-", "_")
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
