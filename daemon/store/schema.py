"""The tables of `runs.sqlite`, format 4, word for word as DAMNIT makes them, and their check."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FORMAT = 4

# Columns of the views that are no variables. A value under such a name, or in place of people's
# comments, would make the published readers fail or a comment vanish.
RUN_COLUMNS = ("proposal", "run", "start_time", "added_at")
RESERVED = frozenset({*RUN_COLUMNS, "comment"})

TABLES = """\
CREATE TABLE run_info(
    proposal,
    run,
    start_time,
    added_at
);
CREATE UNIQUE INDEX proposal_run ON run_info (proposal, run);

CREATE TABLE run_variables(
    proposal,
    run,
    name,
    version,
    value,
    timestamp,
    max_diff,
    provenance,
    summary_type,
    summary_method,
    attributes
);
CREATE UNIQUE INDEX variable_version
    ON run_variables (proposal, run, name, version);

CREATE VIEW runs      AS SELECT * FROM run_info;
CREATE VIEW max_diffs AS SELECT proposal, run FROM run_info;

CREATE TABLE metameta(
    key PRIMARY KEY NOT NULL,
    value
);

CREATE TABLE variables(
    name TEXT PRIMARY KEY NOT NULL,
    type TEXT,
    title TEXT,
    description TEXT,
    attributes TEXT
);

CREATE TABLE time_comments(
    timestamp,
    comment
);

CREATE TABLE tags(
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT UNIQUE NOT NULL
);

CREATE TABLE variable_tags(
    variable_name TEXT NOT NULL,
    tag_id INTEGER NOT NULL,
    FOREIGN KEY (variable_name) REFERENCES variables(name) ON DELETE CASCADE,
    FOREIGN KEY (tag_id) REFERENCES tags(id) ON DELETE CASCADE,
    PRIMARY KEY (variable_name, tag_id)
);

CREATE TRIGGER delete_orphan_tags_after_variable_tag_delete
AFTER DELETE ON variable_tags
FOR EACH ROW
BEGIN
    -- Check if the tag_id from the deleted row (OLD.tag_id)
    -- no longer exists in any other row in variable_tags
    DELETE FROM tags
    WHERE id = OLD.tag_id
    AND NOT EXISTS (
        SELECT 1 FROM variable_tags
        WHERE tag_id = OLD.tag_id
    );
END;
"""

COLUMNS = {
    "run_info": RUN_COLUMNS,
    "run_variables": (
        *("proposal", "run", "name", "version", "value", "timestamp", "max_diff"),
        *("provenance", "summary_type", "summary_method", "attributes"),
    ),
    "metameta": ("key", "value"),
    "variables": ("name", "type", "title", "description", "attributes"),
    "time_comments": ("timestamp", "comment"),
    "tags": ("id", "name"),
    "variable_tags": ("variable_name", "tag_id"),
}
UNIQUE = {
    "run_info": ("proposal", "run"),
    "run_variables": ("proposal", "run", "name", "version"),
    "metameta": ("key",),
    "variables": ("name",),
    "tags": ("name",),
    "variable_tags": ("variable_name", "tag_id"),
}


def check(path: Path) -> list[str]:
    """Return what keeps the database at `path` from being used, in words; nothing if it is fine.

    An empty file or database counts as fine: the tables can be made in it. The file is only
    read, unless SQLite has to end what a killed program had begun in it. Raises
    sqlite3.OperationalError when another program holds it locked.
    """
    if not path.is_file():
        return ["it is no file"]
    try:
        with _reading(path) as connection:
            return problems(connection)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        return [f"it is no SQLite database, or a damaged one ({error})"]


def problems(connection: sqlite3.Connection) -> list[str]:
    """Return what is missing or in the way in the tables of an open database."""
    tables = _names(connection, "table")
    if not tables:
        return []
    if missing := [name for name in COLUMNS if name not in tables]:
        return [f"it has no table {name}" for name in missing]
    found = format_version(connection)
    if found is None:
        return ["metameta has no data_format_version"]
    if found < FORMAT:
        return [
            f"it has format version {found}, older than {FORMAT}: open it once with a current "
            f"DAMNIT, which converts it"
        ]
    return [problem for name in COLUMNS for problem in _table_problems(connection, name)]


def format_version(connection: sqlite3.Connection) -> int | None:
    """Return the version of the format that the database says it has; None without one."""
    row = connection.execute(
        "SELECT value FROM metameta WHERE key = 'data_format_version'"
    ).fetchone()
    try:
        return None if row is None else int(row[0])
    except (TypeError, ValueError):
        return None


def is_blank(connection: sqlite3.Connection) -> bool:
    """Tell whether the database has no tables yet."""
    return not _names(connection, "table")


def quoted(text: str, quote: str) -> str:
    """Return `text` as SQL: a literal for the quote `'`, an identifier for `\"`."""
    return quote + text.replace(quote, quote * 2) + quote


def _names(connection: sqlite3.Connection, kind: str) -> set[str]:
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = ?", (kind,))
    return {row[0] for row in rows if not row[0].startswith("sqlite_")}


def columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """Return the columns of a table or view; raises OperationalError for a broken view."""
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def _table_problems(connection: sqlite3.Connection, table: str) -> list[str]:
    needed = COLUMNS[table]
    existing = {row[1]: row for row in connection.execute(f"PRAGMA table_info({table})")}
    found = [f"{table} has no column {name}" for name in needed if name not in existing]
    for name, (_, _, _, not_null, default, _) in existing.items():
        if name not in needed and not_null and default is None:
            found.append(f"{table} has a column {name} that must be filled and is unknown")
    unique = UNIQUE.get(table)
    if unique is not None and not found and set(unique) not in _unique_keys(connection, table):
        found.append(f"{table} allows the same {', '.join(unique)} twice")
    return found


def _unique_keys(connection: sqlite3.Connection, table: str) -> list[set[str]]:
    return [
        {row[2] for row in connection.execute(f"PRAGMA index_info({quoted(name, chr(34))})")}
        for _, name, unique, _, partial in connection.execute(f"PRAGMA index_list({table})")
        if unique and not partial
    ]


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The database at `path`, opened so that nothing of it is changed."""
    connection = _open(path, "ro")
    try:
        try:
            _names(connection, "table")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _UNFINISHED:
                raise
            connection.close()
            connection = _open(path, "rw")
        yield connection
    finally:
        connection.close()


# What a reader is told when a killed program left a transaction that must be rolled back first.
_UNFINISHED = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)


def _open(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=0.5)
