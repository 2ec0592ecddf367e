"""Reading a database folder from Python: the run table, and the full data of each run.

Nothing is written, and no daemon is needed; where one is at work, results are there as soon as
their variables end.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from ctxlib.errors import nearest
from ctxlib.pending import PendingResults
from ctxlib.places import find_folder
from ctxlib.run_results import RunResults
from ctxlib.table_file import Column, TableFile
from ctxlib.variable_data import VariableData

if TYPE_CHECKING:
    import pandas as pd

# Titles of what is in no list of variables.
_TITLES = {"start_time": "Timestamp", "comment": "Comment"}


class RunTable:
    """The database of a proposal: `RunTable(1234)`, or `RunTable("path/of/the/folder")`.

    `table[42]` gives the results of run 42, `table[42, "energy"]` those of one variable, by name
    or title. Where the table has several proposals, `table[1234, 42]` and `table[1234, 42,
    "energy"]` name one; else it is the folder's own.
    """

    def __init__(self, location: SupportsIndex | str | os.PathLike[str]) -> None:
        """Raises NotFoundError for an unknown proposal, FileNotFoundError without a run table."""
        self.folder = find_folder(location)
        self._file = TableFile(self.folder / "runs.sqlite")
        self._pending = PendingResults(self.folder)

    @property
    def proposal(self) -> int:
        """The proposal that the folder belongs to."""
        return int(self._file.setting("proposal"))

    def runs(self) -> list[int]:
        """The numbers of all runs that were taken, by proposal and run."""
        return [run for _, run, _ in self._file.runs()]

    def table(self, with_titles: bool = False) -> pd.DataFrame:
        """The whole run table, one row per run, one column per variable.

        Columns have the names of the variables, or their titles. Missing values are NA; arrays and
        pictures are shown as `<sparkline>`, `<thumbnail>` and `<ndarray>`. Columns of numbers or
        texts have pandas' types that know NA; `start_time` knows its time zone.
        """
        from ctxlib.frame import dataframe

        return dataframe(self._file, with_titles=with_titles)

    @overload
    def __getitem__(self, key: int | tuple[int, int]) -> RunVariables: ...

    @overload
    def __getitem__(self, key: tuple[int, str] | tuple[int, int, str]) -> VariableData: ...

    def __getitem__(self, key: object) -> RunVariables | VariableData:
        """Give a run's results, or one of them; KeyError names what there is not."""
        proposal, run, name = self._parts(key)
        if not self._file.has_run(proposal, run):
            raise KeyError(
                f"run {run} of proposal {proposal} is not in the table, or has not been taken; "
                f"runs() lists those that are"
            )
        variables = RunVariables(self.folder, proposal, run, self._file, self._pending)
        return variables if name is None else variables[name]

    def _parts(self, key: object) -> tuple[int, int, str | None]:
        parts: Any = key if isinstance(key, tuple) else (key,)
        name = None
        if parts and isinstance(parts[-1], str):
            *parts, name = parts
        try:
            numbers = [operator.index(part) for part in parts]
        except TypeError:
            numbers = []
        if len(numbers) == 1:
            return self.proposal, numbers[0], name
        if len(numbers) == 2:
            return numbers[0], numbers[1], name
        raise TypeError(
            f"{key!r} names no run: give a run's number, (run, variable), (proposal, run) or "
            f"(proposal, run, variable)"
        )

    def __repr__(self) -> str:
        return f"<RunTable of p{self.proposal} in {self.folder}>"


class RunVariables:
    """The results of one run: `variables["energy"]`, by name or title."""

    def __init__(
        self, folder: Path, proposal: int, run: int, table: TableFile, pending: PendingResults
    ) -> None:
        self.proposal = proposal
        self.run = run
        self.file = folder / "extracted_data" / f"p{proposal}_r{run}.h5"
        self._table = table
        self._results = RunResults(self.file, proposal, run, table, pending)

    def keys(self) -> list[str]:
        """The names of the variables that have a value in this run, sorted."""
        return self._results.names()

    def titles(self) -> list[str]:
        """The titles of the variables that have a value in this run, sorted."""
        columns = self._table.columns()
        return sorted(_title(name, columns) for name in self.keys())

    def __getitem__(self, name: str) -> VariableData:
        """Give the results of the variable with this name or, failing that, this title.

        KeyError when it has none in this run, with the error it failed with.
        """
        columns, names = self._table.columns(), self.keys()
        if name not in names:
            name = self._named(name, columns, names)
        column = columns.get(name)
        return VariableData(self._results, name, _title(name, columns), column)

    def _named(self, title: str, columns: dict[str, Column], names: list[str]) -> str:
        found = [name for name in names if _title(name, columns) == title]
        if len(found) == 1:
            return found[0]
        if found:
            raise KeyError(f"{' and '.join(found)} have the title {title!r}; give the name")
        known = [name for name, column in columns.items() if title in (name, column.title)]
        for name in known:
            error = self._results.error(name)
            if error is not None:
                raise KeyError(f"{name!r} has no value in run {self.run}: {': '.join(error)}")
        mend = nearest(title, [*names, *columns], otherwise="keys() lists what there is")
        if known:
            mend = "it has not been computed, or returned nothing"
        raise KeyError(f"{title!r} has no value in run {self.run} of p{self.proposal}; {mend}")

    def __contains__(self, name: object) -> bool:
        return name in self.keys() or name in self.titles()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def _ipython_key_completions_(self) -> list[str]:
        return self.keys()

    def __repr__(self) -> str:
        return f"<RunVariables for p{self.proposal}, r{self.run} with {len(self)} variables>"


def _title(name: str, columns: dict[str, Column]) -> str:
    column = columns.get(name)
    return _TITLES.get(name, name) if column is None else column.title
