"""Finds the results of one run: in its file, in the folders of jobs under way, in the table."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ctxlib.pending import Pending, PendingResults, PlainResult
from ctxlib.table_file import TableCell, TableFile

if TYPE_CHECKING:
    from ctxlib.runfile import DataType, RunFile

T = TypeVar("T")


class Source(Protocol):
    """What a result can be read from, by its name."""

    def read(self, name: str, *, deserialize_plotly: bool = True) -> Any:
        """The data; KeyError when there are none."""

    def preview(self, name: str, *, deserialize_plotly: bool = True) -> Any:
        """The preview that the variable gave, None if it gave none."""

    def type_hint(self, name: str, *, preview: bool = False) -> DataType | None:
        """What the data, or the preview, are."""


class RunResults:
    """The results of one run, each from where its newest value lies."""

    def __init__(
        self, path: Path, proposal: int, run: int, table: TableFile, pending: PendingResults
    ) -> None:
        """`path` is the run file, which need not be there."""
        self.path = path
        self.proposal = proposal
        self.run = run
        self._table = table
        self._pending = pending

    def names(self) -> list[str]:
        """The variables that have a value: data, a preview, or something that the table shows."""
        cells = self.cells()
        pending = self._of_jobs(cells)
        in_file = set(self._with_file(lambda file: file.data_names()) or ())
        gone = {name for name, cell in cells.items() if cell.error is not None}
        gone -= set(pending)
        gone |= {name for name, result in pending.items() if not result.has_value}
        computed = in_file | {name for name, result in pending.items() if result.has_value}
        # A job that came to nothing else may have had a summary, which only the table tells.
        shown = {
            name
            for name, cell in cells.items()
            if cell.value is not None
            and cell.error is None
            and (name not in pending or pending[name].time <= cell.time)
        }
        return sorted((computed - gone) | shown)

    def cells(self) -> dict[str, TableCell]:
        """What the table shows for the run, by name."""
        return self._table.cells(self.proposal, self.run)

    def error(self, name: str) -> tuple[str, str] | None:
        """Class name and text of the error that a variable ended with, None if it has none."""
        cells = self.cells()
        result = self._of_jobs(cells).get(name)
        if result is not None:
            return result.error
        return cells[name].error if name in cells else None

    def with_source(self, name: str, read: Callable[[Source], T]) -> T:
        """Read something of a variable that is computed; KeyError when there is nothing.

        Once more if what is read was just replaced, or moved into the run file.
        """
        return _once_more(lambda: self._with_source(name, read))

    def _with_source(self, name: str, read: Callable[[Source], T]) -> T:
        with self._source(name) as source:
            return read(source)

    @contextmanager
    def _source(self, name: str) -> Iterator[Source]:
        from ctxlib.runfile import RunFile

        result = self._of_jobs(self.cells()).get(name)
        if result is None or not result.has_value or self._newer_in_file(name, result):
            with RunFile(self.path) as file:
                yield file
        elif result.fragment is not None:
            with RunFile(result.fragment) as fragment:
                yield fragment
        elif result.data is not None:
            yield PlainResult(result.data)

    def _newer_in_file(self, name: str, result: Pending) -> bool:
        """Tell whether the file has a later value than a job whose fragments are still there."""
        time = self._with_file(lambda file: self._time_in_file(file, name))
        return time is not None and time >= result.time

    def _time_in_file(self, file: RunFile, name: str) -> float | None:
        if name not in file.data_names():
            return None
        origin = file.origin(name) or {}
        time: float = origin.get("time") or self.path.stat().st_mtime
        return time

    def _of_jobs(self, cells: dict[str, TableCell]) -> dict[str, Pending]:
        """What jobs under way have found, short of what the table says has failed since."""
        found = self._pending.of_run(self.proposal, self.run)
        return {
            name: result
            for name, result in found.items()
            if name not in cells or cells[name].error is None or cells[name].time < result.time
        }

    def _with_file(self, read: Callable[[RunFile], T]) -> T | None:
        """Read something from the run file; None when there is none."""
        from ctxlib.runfile import RunFile

        def attempt() -> T:
            with RunFile(self.path) as file:
                return read(file)

        return _once_more(attempt) if self.path.exists() else None


def _once_more(read: Callable[[], T]) -> T:
    """Read, and once more when a file was replaced (network filesystems) or has just gone."""
    try:
        return read()
    except OSError as error:
        # HDF5 tells the number in its text only, when it comes up while data are read.
        stale = error.errno == errno.ESTALE or f"errno = {errno.ESTALE}" in str(error)
        if not stale and not isinstance(error, FileNotFoundError):
            raise
    return read()
