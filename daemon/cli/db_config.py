"""`runtable db-config`: the settings of a database."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from daemon.cli.folder import connect, database_folder, in_option
from daemon.cli.setting import Setting, carry_out, check_usage, setting_arguments

if TYPE_CHECKING:  # imported where needed, because every command's start would pay for it
    from daemon.cli.connection import Connection


@click.command("db-config")
@setting_arguments
@in_option
def command(
    key: str | None, value: str | None, delete: bool, num: bool, directory: str | None
) -> None:
    """List the settings, show KEY, or set KEY to VALUE.

    Dashes and underscores in KEY are the same. "param.NAME" is the parameter NAME of context.py.
    """
    check_usage(key, value, delete=delete, num=num)
    with connect(database_folder(directory)) as service:
        carry_out(_Served(service), key, value, delete=delete, num=num)


class _Served:
    """The settings of a database, in the hands of whoever serves it."""

    def __init__(self, service: "Connection") -> None:
        self._service = service

    def listed(self) -> Sequence[Setting]:
        found: Sequence[Setting] = self._service.call("settings")["settings"]
        return found

    def set(self, key: str, text: str, *, number: bool) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = self._service.call("set", key=key, value=text, number=number)
        return answer

    def delete(self, key: str) -> None:
        self._service.call("delete", key=key)
