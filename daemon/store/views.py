"""The views `runs` and `max_diffs` of `runs.sqlite`: a row per run, a column per variable."""

import logging
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

from daemon.store.schema import RUN_COLUMNS, columns, quoted

log = logging.getLogger(__name__)

# SQLite allows 2000 columns; the rest is for variables that other programs add to the views.
MOST_COLUMNS = 1900


class Views:
    """Keeps the two views up to date, and touches them only when a variable is new.

    To list the names of all values takes longer the more runs there are; so what the views show
    is remembered, for as long as SQLite's own count of changes to the schema stays the same.
    """

    def __init__(self, path: Path) -> None:
        """Keep the views of the database at `path`."""
        self._path = path
        self._shown: set[str] = set()
        self._version: int | None = None
        self._left_out: set[str] = set()

    def forget(self) -> None:
        """Look anew at the next call: the file is another one."""
        self._version = None

    def show(self, connection: sqlite3.Connection, names: Iterable[str]) -> None:
        """Make the views anew if they lack one of `names`, in the transaction that is open.

        Of more than MOST_COLUMNS names the last are left out, and the log says which.
        """
        version: int = connection.execute("PRAGMA schema_version").fetchone()[0]
        if version != self._version:
            # Another program made them, or our own transaction was rolled back.
            self._shown = set(shown_names(connection) or ())
            self._version = version
        if not self._shown.union(self._left_out).issuperset(names := list(names)):
            self._remake(connection, names)
            self._version = None

    def _remake(self, connection: sqlite3.Connection, names: Sequence[str]) -> None:
        registered = connection.execute("SELECT name FROM variables ORDER BY rowid").fetchall()
        shown = shown_names(connection)
        # The comment is in no list of variables: a broken view must not lose it.
        every = dict.fromkeys(["comment"] if shown is None else shown)
        every.update(dict.fromkeys([row[0] for row in registered]))
        every.update(dict.fromkeys(names))
        listed = list(every)
        make_views(connection, listed[:MOST_COLUMNS])
        if left_out := [name for name in listed[MOST_COLUMNS:] if name not in self._left_out]:
            self._left_out.update(left_out)
            log.warning(
                "%s has more than %d variables; these are in the table, but not in its views: %s",
                self._path,
                MOST_COLUMNS,
                ", ".join(left_out),
            )


def shown_names(connection: sqlite3.Connection) -> list[str] | None:
    """Return the variables that both views show, in order; None if one is missing or broken."""
    try:
        runs = columns(connection, "runs")
        differences = columns(connection, "max_diffs")
    except sqlite3.OperationalError:
        return None
    if not runs or not differences:
        return None
    return [name for name in runs[len(RUN_COLUMNS) :] if name in differences]


def make_views(connection: sqlite3.Connection, names: Sequence[str]) -> None:
    """Make both views with a column for each name. Runs without any value are in them too."""
    for view, head, value in (
        ("runs", "i.proposal, i.run, i.start_time, i.added_at", "value"),
        ("max_diffs", "i.proposal, i.run", "max_diff"),
    ):
        cells = "".join(
            f", max(CASE WHEN v.name = {quoted(name, chr(39))} THEN v.{value} END) "
            f"AS {quoted(name, chr(34))}"
            for name in names
        )
        connection.execute(f"DROP VIEW IF EXISTS {view}")
        connection.execute(
            f"CREATE VIEW {view} AS SELECT {head}{cells} FROM run_info AS i "
            f"LEFT JOIN run_variables AS v ON v.proposal = i.proposal AND v.run = i.run "
            f"GROUP BY i.proposal, i.run"
        )
