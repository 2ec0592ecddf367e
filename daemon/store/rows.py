"""Rows of `runs.sqlite`: what one row says, and the statements that write it."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ctxlib.summary import Summary

Run = tuple[int, int]
"""Proposal and run, the key of everything that belongs to a run."""

Editable = bool | int | float | str | None

COMMENT = "comment"
PROCESSING_ERROR = "processing_error"

_TYPES: dict[str, tuple[type, ...]] = {
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
}


class CellValue(NamedTuple):
    """What the table shows for one variable of a run; with neither summary nor error, nothing.

    `error` is the name of the exception's class, and its message.
    """

    name: str
    summary: "Summary | None" = None
    error: tuple[str, str] | None = None
    provenance: str = "context.py"


@dataclass(frozen=True)
class RunRow:
    """A run that the table has; times in seconds since the epoch, UTC."""

    proposal: int
    run: int
    start_time: float | None
    added_at: float | None


def ensure_run(
    connection: sqlite3.Connection, key: Run, start_time: float | None, added_at: float
) -> bool:
    """Make the row of a run if there is none (True), or give it a missing start time."""
    made = connection.execute(
        "INSERT OR IGNORE INTO run_info (proposal, run, start_time, added_at) VALUES (?, ?, ?, ?)",
        (*key, start_time, added_at),
    ).rowcount
    if not made and start_time is not None:
        connection.execute(
            "UPDATE run_info SET start_time = ? "
            "WHERE proposal = ? AND run = ? AND start_time IS NULL",
            (start_time, *key),
        )
    return bool(made)


def editable(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the variables that people fill, each with its type."""
    query = "SELECT name, type FROM variables WHERE type IS NOT NULL"
    return {row["name"]: row["type"] for row in connection.execute(query)}


def register(connection: sqlite3.Connection, variables: Sequence[Mapping[str, Any]]) -> None:
    """Write the variables of a context, and exactly their tags, where they differ."""
    query = "SELECT name, title, description FROM variables"
    stored = {row["name"]: (row["title"], row["description"]) for row in connection.execute(query)}
    tagged: dict[str, set[str]] = {}
    for name, tag in connection.execute(
        "SELECT variable_name, tags.name FROM variable_tags JOIN tags ON tags.id = tag_id"
    ):
        tagged.setdefault(name, set()).add(tag)
    for described in variables:
        name = described["name"]
        texts = (described.get("title") or name, described.get("description"))
        if stored.get(name) != texts:
            connection.execute(
                "INSERT INTO variables (name, title, description) VALUES (?, ?, ?) "
                "ON CONFLICT (name) DO UPDATE SET title = excluded.title, "
                "description = excluded.description",
                (name, *texts),
            )
        tags = set(described.get("tags") or ())
        if tags != tagged.get(name, set()):
            _replace_tags(connection, name, sorted(tags))


def register_names(connection: sqlite3.Connection, names: Sequence[str]) -> None:
    """Give a row, with the name as the title, to each variable that has none."""
    connection.executemany(
        "INSERT OR IGNORE INTO variables (name, title) VALUES (?1, ?1)",
        [(name,) for name in names],
    )


def store_result(
    connection: sqlite3.Connection, key: Run, timestamp: float, result: CellValue
) -> None:
    """Write what the table shows for a computed variable, in place of what it showed."""
    summary = result.summary
    if result.error is not None:
        cls, message = result.error
        columns: tuple[object, ...] = (None, None, None, None)
        attributes: dict[str, Any] = {"error": message, "error_cls": cls}
    elif summary is not None:
        columns = (summary.value, summary.max_diff, summary.type, summary.method or "")
        attributes = summary.attributes
    else:
        columns = (None, None, None, None)
        attributes = {}
    connection.execute(
        "INSERT INTO run_variables (proposal, run, name, version, timestamp, provenance, "
        "value, max_diff, summary_type, summary_method, attributes) "
        "VALUES (?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (proposal, run, name, version) DO UPDATE SET "
        "timestamp = excluded.timestamp, provenance = excluded.provenance, "
        "value = excluded.value, max_diff = excluded.max_diff, "
        "summary_type = excluded.summary_type, summary_method = excluded.summary_method, "
        "attributes = excluded.attributes",
        (
            *(*key, result.name, timestamp, result.provenance, *columns),
            json.dumps(attributes) if attributes else None,
        ),
    )
    _drop_other_versions(connection, key, result.name)


def store_value(
    connection: sqlite3.Connection, key: Run, timestamp: float, name: str, value: Editable
) -> bool:
    """Write a value that is not computed; False if it is the one that is there.

    Raises KeyError when `name` is not one that can be edited, TypeError when the value is not
    of its type.
    """
    query = (
        "SELECT value FROM run_variables WHERE proposal = ? AND run = ? AND name = ? "
        "ORDER BY version DESC"
    )
    row = connection.execute(query, (*key, name)).fetchone()
    if value == (None if row is None else row["value"]):
        return False
    kind = _editable_type(connection, name)
    if value is not None and type(value) not in _TYPES[kind]:
        raise TypeError(f"{name} of run {key[1]} cannot be {value!r}: it must be of type {kind}")
    if isinstance(value, str):
        value = value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    connection.execute(
        "INSERT INTO run_variables (proposal, run, name, version, value, timestamp) "
        "VALUES (?, ?, ?, 1, ?, ?) ON CONFLICT (proposal, run, name, version) DO UPDATE "
        "SET value = excluded.value, timestamp = excluded.timestamp",
        (*key, name, value, timestamp),
    )
    _drop_other_versions(connection, key, name)
    return True


def _replace_tags(connection: sqlite3.Connection, name: str, tags: Sequence[str]) -> None:
    connection.executemany("INSERT OR IGNORE INTO tags (name) VALUES (?)", [(t,) for t in tags])
    connection.executemany(
        "INSERT OR IGNORE INTO variable_tags SELECT ?, id FROM tags WHERE name = ?",
        [(name, tag) for tag in tags],
    )
    # A trigger of the database then drops each tag with its last use.
    marks = ", ".join("?" * len(tags))
    connection.execute(
        f"DELETE FROM variable_tags WHERE variable_name = ? "
        f"AND tag_id NOT IN (SELECT id FROM tags WHERE name IN ({marks}))",
        (name, *tags),
    )


def _drop_other_versions(connection: sqlite3.Connection, key: Run, name: str) -> None:
    # The views take the largest value of all versions, so there must be only one.
    connection.execute(
        "DELETE FROM run_variables WHERE proposal = ? AND run = ? AND name = ? AND version != 1",
        (*key, name),
    )


def _editable_type(connection: sqlite3.Connection, name: str) -> str:
    if name == COMMENT:
        return "string"  # and no row in `variables`, as in DAMNIT
    if name == PROCESSING_ERROR:
        connection.execute(
            "INSERT OR IGNORE INTO variables (name, type, title) VALUES (?, 'string', ?)",
            (name, "Processing error"),
        )
    kind = editable(connection).get(name)
    if kind not in _TYPES:
        raise KeyError(f"there is no variable {name!r} that can be edited")
    return kind
