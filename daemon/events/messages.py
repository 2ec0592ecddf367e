"""Messages of other programs, as events: our own format and the facility's Kafka messages."""

import json
import re
from collections.abc import Mapping
from typing import Any

from daemon.events import Data, MigrationEvent

KAFKA_EVENTS: Mapping[str, Data] = {
    "migration_complete": "raw",
    "daq_run_complete": "raw",
    "run_corrections_complete": "proc",
    "online_correction_complete": "proc",
}
LARGEST = 2**31 - 1
"""No proposal or run has a larger number; SQLite and file names could not take any number."""
LONGEST_KEY = 500


class BadMessage(ValueError):
    """A message that is no event; str() is the reason, in words for its sender."""


def parse_message(
    payload: bytes | str | Mapping[str, Any],
    *,
    source: str,
    key: str,
    now: float,
    proposal: int | None = None,
) -> MigrationEvent:
    """Read a message: `{"proposal", "run", "data", "key"?}` or a Kafka `{"event", ...}`.

    `key` identifies the delivery, for messages that bring no key of their own; `proposal` is for
    messages that name none. Numbers may be written as 42, "42", "r0042" or "p001234". Raises
    BadMessage.
    """
    fields = _fields(payload)
    if fields.get("proposal") is not None:
        proposal = _number(fields, "proposal", "p")
    if proposal is None:
        raise BadMessage('"proposal" is missing: give the proposal\'s number')
    return MigrationEvent(
        proposal=proposal,
        run=_number(fields, "run", "r"),
        data=_data(fields),
        source=source,
        key=_key(fields.get("key"), key),
        time=now,
    )


def _fields(payload: bytes | str | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(payload, Mapping):
        return payload
    try:
        fields = json.loads(payload if isinstance(payload, str) else payload.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadMessage(f"not text in UTF-8: {error.reason} at byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise BadMessage(f"a JSON object is needed, this is {_shown(fields)}")
    return fields


def _number(fields: Mapping[str, Any], name: str, letter: str) -> int:
    value = fields.get(name)
    if value is None:
        raise BadMessage(f'"{name}" is missing: give the {name}\'s number')
    number = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, str):
        match = re.fullmatch(rf"{letter}?([0-9]{{1,12}})", value.strip(), re.IGNORECASE)
        number = int(match[1]) if match else None
    if number is None or not 0 <= number <= LARGEST:
        raise BadMessage(
            f'"{name}" is {_shown(value)}; it must be a number such as 42 or "{letter}0042"'
        )
    return number


def _data(fields: Mapping[str, Any]) -> Data:
    if "data" in fields:
        value = fields["data"]
        if value in ("raw", "proc"):
            data: Data = value
            return data
        raise BadMessage(f'"data" is {_shown(value)}; it must be "raw" or "proc"')
    if "event" not in fields:
        raise BadMessage('neither "data" ("raw" or "proc") nor "event" says what has arrived')
    event = fields["event"]
    if not isinstance(event, str) or event not in KAFKA_EVENTS:
        known = ", ".join(KAFKA_EVENTS)
        raise BadMessage(f'"event" is {_shown(event)}; known events are {known}')
    return KAFKA_EVENTS[event]


def _key(given: object, delivery: str) -> str:
    if given is None:
        return delivery
    if isinstance(given, str) and 0 < len(given) <= LONGEST_KEY:
        return given
    raise BadMessage(
        f'"key" is {_shown(given)}; it must be a text of 1 to {LONGEST_KEY} characters, or absent'
    )


def _shown(value: object) -> str:
    text = json.dumps(value, default=repr)
    return text if len(text) <= 100 else f"{text[:100]}…"
