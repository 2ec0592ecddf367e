"""Reads `runs.sqlite`, and never writes it: a folder that one may only read will do."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

OLDEST = 1
"""The oldest format of the table that is read."""
LOCK_SECONDS = 20.0
"""How long to wait for a program that is writing."""

T = TypeVar("T")
Rows = list[tuple[Any, ...]]
Values = tuple[object, ...]
Times = tuple[float | None, float | None]


@dataclass(frozen=True)
class Column:
    """A variable as the table knows it; `type` is None for one that is computed."""

    name: str
    title: str
    type: str | None = None


@dataclass(frozen=True)
class TableCell:
    """What the table has for one variable of a run; `time` is when it was written there."""

    value: Any
    kind: str | None
    attributes: dict[str, Any]
    time: float

    @property
    def error(self) -> tuple[str, str] | None:
        """Class name and text of the variable's error, None if it has none."""
        if "error" not in self.attributes:
            return None
        return str(self.attributes.get("error_cls")), str(self.attributes["error"])

    def shown(self) -> Any:
        """The value as an object: a number, a text, bytes of a PNG, an array, or None."""
        if not isinstance(self.value, bytes):
            return self.value
        if self.kind == "complex":
            return complex(*struct.unpack("<dd", self.value))
        if self.kind in ("trendline", "numpy"):
            import numpy as np

            return np.load(io.BytesIO(self.value), allow_pickle=False)
        return self.value


class TableFile:
    """`runs.sqlite` of a folder, opened for each question: it may be replaced in between."""

    def __init__(self, path: Path) -> None:
        """Raises FileNotFoundError when it is not there, ValueError for another format."""
        self.path = path
        if not path.exists():
            raise FileNotFoundError(
                f"no run table in {path.parent}: there is no {path.name}; give the database "
                f"folder, or the number of a proposal that has one"
            )
        version = self.setting("data_format_version")
        if not isinstance(version, int) or version < OLDEST:
            raise ValueError(
                f"{path} has format version {version}, this reads {OLDEST} and later; "
                f"`runtable migrate {path.parent}` converts it"
            )

    def setting(self, key: str) -> Any:
        """A setting as it is stored, None if it is not."""
        rows = self._rows("SELECT value FROM metameta WHERE key = ?", key)
        return rows[0][0] if rows else None

    def runs(self) -> Rows:
        """(proposal, run, start_time) of the runs that were taken, in that order."""
        return self._rows(
            "SELECT proposal, run, start_time FROM run_info WHERE start_time IS NOT NULL "
            "ORDER BY proposal, run"
        )

    def run_times(self, run: tuple[int, int] | None = None) -> dict[tuple[int, int], Times]:
        """When each run began and was added, by proposal and run; `run` asks for that one alone.

        Runs that were announced but not taken are there too, without a start time.
        """
        query, values = "SELECT proposal, run, start_time, added_at FROM run_info", run or ()
        if run is not None:
            query += " WHERE proposal = ? AND run = ?"
        rows = self._rows(query, *values)
        return {(proposal, number): (start, added) for proposal, number, start, added in rows}

    def has_run(self, proposal: int, run: int) -> bool:
        """Tell whether the run is in the table and was taken."""
        query = "SELECT 1 FROM run_info WHERE proposal = ? AND run = ? AND start_time IS NOT NULL"
        return bool(self._rows(query, proposal, run))

    def columns(self) -> dict[str, Column]:
        """The variables that have a title, by name."""
        rows = self._rows("SELECT name, title, type FROM variables")
        return {name: Column(name, title or name, kind) for name, title, kind in rows}

    def names_shown(self) -> list[str]:
        """The columns of the view `runs`; none if it is broken."""
        try:
            return [row[1] for row in self._rows("PRAGMA table_info(runs)")]
        except sqlite3.OperationalError:
            return []  # of more than 2000 columns, say; the tables have all there is

    def cells(self, proposal: int, run: int) -> dict[str, TableCell]:
        """What the table has for a run, by name."""
        query = (
            "SELECT name, value, summary_type, timestamp, attributes FROM run_variables "
            "WHERE proposal = ? AND run = ? ORDER BY version"
        )
        try:
            rows = self._rows(query, proposal, run)
        except sqlite3.OperationalError as error:
            if "no such column: attributes" not in str(error):
                raise
            rows = self._rows(query.replace("attributes", "NULL"), proposal, run)  # of format 1
        return {
            name: TableCell(value, kind, json.loads(text) if text else {}, time or 0.0)
            for name, value, kind, time, text in rows
        }

    def each_value(self, take: Callable[[Iterator[tuple[int, int, str, Any]]], T]) -> T:
        """Give `take` an iterator over (proposal, run, name, value) of all cells, run by run.

        Pictures are given as their placeholders: what lies in the blobs is not read, so that
        thousands of thumbnails cost nothing. Of several versions of a value the highest comes
        last. `take` may be called twice, if the table was replaced while it was read.
        """
        query = """
            SELECT proposal, run, name, CASE WHEN typeof(value) != 'blob' THEN value
                ELSE CASE summary_type WHEN 'complex' THEN value WHEN 'trendline' THEN '<sparkline>'
                     WHEN 'numpy' THEN '<ndarray>' ELSE '<thumbnail>' END END
            FROM run_variables ORDER BY proposal, run, name, version"""
        return self._ask(query, (), take)

    def _rows(self, query: str, *values: object) -> Rows:
        return self._ask(query, values, list)

    def _ask(self, query: str, values: Values, take: Callable[[Any], T]) -> T:
        try:
            return self._ask_once("ro", query, values, take)
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "no such" in str(error):
                raise
            # The file was replaced on a network filesystem; or a killed program left a change
            # half made, which whoever may write takes back by opening it.
            writable = os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK)
            return self._ask_once("rw" if writable else "ro", query, values, take)

    def _ask_once(self, mode: str, query: str, values: Values, take: Callable[[Any], T]) -> T:
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"
        connection = sqlite3.connect(uri, uri=True, timeout=LOCK_SECONDS)
        with closing(connection):
            return take(connection.execute(query, values))
