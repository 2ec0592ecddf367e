"""What a new database takes over from another one: its settings and its user-editable columns."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from daemon.store import schema

IDENTITY = frozenset({"data_format_version", "db_id", "proposal", "proposal_path"})
"""Settings that say which database this is, and so belong to one alone."""


class UnusableError(Exception):
    """The database to take from cannot be read as one of this format; says why."""


@dataclass(frozen=True)
class Likeness:
    """Settings, user-editable variables (rows of `variables`) and the tags of those."""

    settings: dict[str, object]
    variables: list[tuple[str, str, str | None, str | None, str | None]]
    tags: list[tuple[str, str]]


def read_likeness(path: Path) -> Likeness:
    """What the database at `path`, which is only read, has to hand on. Raises UnusableError."""
    if found := schema.check(path):
        raise UnusableError(f"{path} cannot be used: {'; '.join(found)}")
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        settings = dict(connection.execute("SELECT key, value FROM metameta"))
        variables = connection.execute(
            "SELECT name, type, title, description, attributes FROM variables "
            "WHERE type IS NOT NULL"
        ).fetchall()
        tags = connection.execute(
            "SELECT v.name, t.name FROM variables AS v "
            "JOIN variable_tags AS vt ON vt.variable_name = v.name "
            "JOIN tags AS t ON t.id = vt.tag_id WHERE v.type IS NOT NULL"
        ).fetchall()
    kept = {key: value for key, value in settings.items() if key not in IDENTITY}
    return Likeness(kept, variables, tags)


def write_likeness(connection: sqlite3.Connection, likeness: Likeness) -> None:
    """Put `likeness` into a new database, within a transaction of the caller's.

    The views show the variables once RunsTable has opened the database.
    """
    connection.executemany(
        "INSERT OR REPLACE INTO metameta (key, value) VALUES (?, ?)", likeness.settings.items()
    )
    connection.executemany(
        "INSERT OR REPLACE INTO variables (name, type, title, description, attributes) "
        "VALUES (?, ?, ?, ?, ?)",
        likeness.variables,
    )
    connection.executemany(
        "INSERT OR IGNORE INTO tags (name) VALUES (?)", [(tag,) for _, tag in likeness.tags]
    )
    connection.executemany(
        "INSERT OR IGNORE INTO variable_tags (variable_name, tag_id) "
        "SELECT ?, id FROM tags WHERE name = ?",
        likeness.tags,
    )
