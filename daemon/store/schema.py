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

_CORE = """\
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
"""

# "IF NOT EXISTS": DAMNIT, killed while it converts a database, leaves them without the number.
TAG_TABLES = """\
CREATE TABLE IF NOT EXISTS tags(
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT UNIQUE NOT NULL
);

CREATE TABLE IF NOT EXISTS variable_tags(
    variable_name TEXT NOT NULL,
    tag_id INTEGER NOT NULL,
    FOREIGN KEY (variable_name) REFERENCES variables(name) ON DELETE CASCADE,
    FOREIGN KEY (tag_id) REFERENCES tags(id) ON DELETE CASCADE,
    PRIMARY KEY (variable_name, tag_id)
);
"""

TAG_TRIGGER = """\
CREATE TRIGGER IF NOT EXISTS delete_orphan_tags_after_variable_tag_delete
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

TABLES = f"{_CORE}\n{TAG_TABLES}\n{TAG_TRIGGER}"

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


def check(path: Path, *, oldest: int = FORMAT) -> list[str]:
    """Return what keeps the database at `path` from being used, in words; nothing if it is fine.

    An empty file or database counts as fine: the tables can be made in it; and so does one of an
    older format down to `oldest`. The file is only read, unless SQLite has to end what a killed
    program had begun in it. Raises sqlite3.OperationalError when another program holds it locked.
    """
    if not path.is_file():
        return ["it is no file"]
    try:
        with _reading(path) as connection:
            return problems(connection, oldest=oldest)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        return [f"it is no SQLite database, or a damaged one ({error})"]


def problems(connection: sqlite3.Connection, *, oldest: int = FORMAT) -> list[str]:
    """Return what is missing or in the way in the tables of an open database; `oldest` as above."""
    tables = _names(connection, "table")
    if not tables:
        return []
    if old := unnumbered_format(connection):
        return [f"it is older than format 1: `runtable migrate {old} DIR` converts it"]
    found = format_version(connection) if "metameta" in tables else None
    needed = _needed(FORMAT if found is None else found)
    if missing := [name for name in needed if name not in tables]:
        return [f"it has no table {name}" for name in missing]
    if found is None:
        return ["metameta has no data_format_version"]
    if found < oldest:
        return [
            f"it has format version {found}, older than {oldest}: `runtable migrate DIR` converts "
            f"it, as does the daemon when it starts"
        ]
    return [problem for name in needed for problem in _table_problems(connection, name, found)]


def format_of(path: Path) -> int | str | None:
    """Return the format of the database at `path`: its number, or as `unnumbered_format` names it.

    None when it has no tables, or does not say. Raises sqlite3.Error when it cannot be read.
    """
    with _reading(path) as connection:
        if old := unnumbered_format(connection):
            return old
        return format_version(connection) if "metameta" in _names(connection, "table") else None


def unnumbered_format(connection: sqlite3.Connection) -> str | None:
    """Return which format from before the numbered ones an open database has, None for neither.

    They are called after the conversions of them: `v0-to-v1` and `intermediate-v1`.
    """
    tables = _names(connection, "table")
    if "runs" in tables and "runnr" in columns(connection, "runs"):
        return "v0-to-v1"
    if "run_variables" in tables and "stored_type" in columns(connection, "run_variables"):
        return "intermediate-v1"
    return None


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


def _needed(version: int) -> dict[str, tuple[str, ...]]:
    """The columns that a database of some format has, by table."""
    needed: dict[str, tuple[str, ...]] = dict(COLUMNS)
    if version < 2:
        needed["run_variables"] = needed["run_variables"][:-1]  # without `attributes`
    if version < 3:
        del needed["tags"], needed["variable_tags"]
    return needed


def _table_problems(connection: sqlite3.Connection, table: str, version: int) -> list[str]:
    needed = _needed(version)[table]
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
