"""The whole run table as a pandas DataFrame."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ctxlib.table_file import TableFile

if TYPE_CHECKING:
    import pandas as pd

TIME_ZONE = "Europe/Berlin"
"""In which start times are shown; as in DAMNIT's tables."""

TITLES = {"proposal": "Proposal", "run": "Run", "start_time": "Timestamp"}
_IN_FRONT = ("proposal", "run", "start_time")
_NOT_SHOWN = "added_at"

Cells = dict[str, list[Any]]


def dataframe(table: TableFile, *, with_titles: bool) -> pd.DataFrame:
    """One row per run that was taken, one column per variable, by name."""
    import pandas as pd

    runs = table.runs()
    cells = _cells(table, {(proposal, run): row for row, (proposal, run, _) in enumerate(runs)})
    start = np.array([round(time * 1e6) for _, _, time in runs], dtype=np.int64)
    moments = pd.to_datetime(pd.Series(start, dtype="int64"), unit="us", utc=True)
    columns: dict[str, Any] = {
        "proposal": np.array([proposal for proposal, _, _ in runs], dtype=np.int64),
        "run": np.array([run for _, run, _ in runs], dtype=np.int64),
        "start_time": moments.dt.tz_convert(TIME_ZONE),
    }
    columns |= {name: _column(cells[name]) for name in sorted(cells)}
    frame = pd.DataFrame(columns, copy=False)
    if with_titles:
        titles = {name: column.title for name, column in table.columns().items()}
        frame.columns = pd.Index([TITLES.get(name) or titles.get(name, name) for name in columns])
    return frame


def _cells(table: TableFile, rows: dict[tuple[int, int], int]) -> Cells:
    """The values of each variable, in the order of the runs; None for those that are missing."""
    names = {*table.columns(), *table.names_shown()} - {*_IN_FRONT, _NOT_SHOWN}

    def take(values: Iterator[tuple[int, int, str, Any]]) -> Cells:
        cells: Cells = defaultdict(lambda: [None] * len(rows))
        cells |= {name: [None] * len(rows) for name in names}
        for proposal, run, name, value in values:
            row = rows.get((proposal, run))
            if row is not None:
                cells[name][row] = value
        return cells

    return table.each_value(take)


def _column(values: list[Any]) -> Any:
    """An array that knows which values are missing: of numbers or texts if all are of a kind."""
    import pandas as pd

    missing = np.array([value is None for value in values], dtype=bool)
    kinds = set(map(type, values)) - {type(None)}
    if kinds == {int}:
        integers = np.array([value or 0 for value in values], dtype=np.int64)
        return pd.arrays.IntegerArray(integers, missing)
    if kinds and kinds <= {int, float}:
        numbers = np.array([value or 0.0 for value in values], dtype=np.float64)
        return pd.arrays.FloatingArray(numbers, missing)
    if bytes in kinds:
        values = [complex(*struct.unpack("<dd", v)) if type(v) is bytes else v for v in values]
    objects = np.array([*values, None], dtype=object)[:-1]
    objects[missing] = pd.NA
    return pd.array(objects, dtype="string") if kinds == {str} else objects
