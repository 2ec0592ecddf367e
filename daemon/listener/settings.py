"""The settings of a listener: what `listener config` reads and writes, typed and checked."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from daemon.settings import HostName, SandboxCommand, SettingError

Value = int | str


def _flag(value: object) -> object:
    words = {"true": 1, "false": 0, "1": 1, "0": 0}
    return words.get(value.strip().lower(), value) if isinstance(value, str) else value


_FLAG_WORDS = "1 (yes) or 0 (no)"
Flag = Annotated[Literal[0, 1], BeforeValidator(_flag), Field(title=_FLAG_WORDS)]


class ListenerSettings(BaseModel):
    """All settings of a listener; each has its default while it is not set."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    static_mode: Flag = Field(
        1, description="1: only databases that were added; 0: also a proposal's own, at its events"
    )
    allow_local_processing: Flag = Field(
        0, description="kept for DAMNIT: jobs run on this machine in either case"
    )
    sandbox_args: SandboxCommand | None = Field(
        None, description="command in which all databases' context files run"
    )
    supervisor_host: HostName = Field(
        "127.0.0.1", description="address on which supervisorctl is answered"
    )
    share_with: Literal["owner", "group", "all"] = Field(
        "group", description="whom new files in the listener's folder are for"
    )
    stop_grace: int = Field(
        10, ge=0, le=3600, description="seconds that the databases' daemons get when it stops"
    )


def from_rows(rows: Mapping[str, object]) -> tuple[ListenerSettings, list[str]]:
    """Make settings from stored rows; a value that cannot be used is its default, and named."""
    values: dict[str, object] = {}
    warnings: list[str] = []
    for key, stored in rows.items():
        if key not in ListenerSettings.model_fields or stored is None:
            continue
        try:
            values[key] = _validated(key, stored)
        except SettingError as error:
            default = ListenerSettings.model_fields[key].get_default()
            warnings.append(f"{error}; taken instead: {default}")
    return ListenerSettings.model_validate(values), warnings


def known(key: str) -> str:
    """Return the stored name of a setting; raises SettingError with the nearest ones."""
    name = key.strip().replace("-", "_")
    if name in ListenerSettings.model_fields:
        return name
    nearest = difflib.get_close_matches(name, ListenerSettings.model_fields, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]}?" if nearest else "without a KEY, all are listed"
    raise SettingError(f"a listener has no setting {key!r}: {hint}")


def parse(key: str, text: str, number: bool = False) -> Value:
    """Return what is to be stored for `text`, with `number` only if that is one.

    Raises SettingError, with what would be right.
    """
    name = known(key)
    if number:
        try:
            float(text)
        except ValueError:
            raise SettingError(f"{name}: {text!r} is no number") from None
    return _validated(name, text.strip())


def describe() -> list[tuple[str, object, str]]:
    """Return (key, default, meaning) of every setting, in the order in which to show them."""
    return [
        (key, field.get_default(), field.description or "")
        for key, field in ListenerSettings.model_fields.items()
    ]


def _validated(key: str, value: object) -> Value:
    try:
        checked: Value = getattr(ListenerSettings.model_validate({key: value}), key)
    except ValidationError:
        raise SettingError(f"{key} cannot be {value!r}: it must be {_right(key)}") from None
    return checked


def _right(key: str) -> str:
    """Say in words which values the setting `key` takes."""
    schema = ListenerSettings.model_json_schema()["properties"][key]
    [form] = [part for part in schema.get("anyOf", [schema]) if part.get("type") != "null"]
    if key == "share_with":
        return " or ".join(form["enum"])
    if "minimum" in form:
        return f"a whole number from {form['minimum']} to {form['maximum']}"
    return str(form["title"])
