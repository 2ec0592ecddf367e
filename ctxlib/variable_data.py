"""The results of one variable of one run, as `RunTable` gives them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxlib.run_results import RunResults, Source
from ctxlib.table_file import Column

if TYPE_CHECKING:
    from ctxlib.runfile import DataType


class VariableData:
    """What a variable gave for a run: its data, its summary in the table, and its preview."""

    def __init__(self, results: RunResults, name: str, title: str, column: Column | None) -> None:
        self.name = name
        self.title = title
        self._results = results
        self._filled_in = name == "comment" or (column is not None and column.type is not None)

    @property
    def proposal(self) -> int:
        """The proposal of the run."""
        return self._results.proposal

    @property
    def run(self) -> int:
        """The number of the run."""
        return self._results.run

    @property
    def file(self) -> Path:
        """The run file, which has the data once the job has ended."""
        return self._results.path

    @property
    def units(self) -> str | None:
        """The units of the variable, None if it has none."""
        cell = self._results.cells().get(self.name)
        return None if cell is None else cell.attributes.get("units")

    def read(self, deserialize_plotly: bool = True) -> Any:
        """The value: a NumPy scalar, a text, an array, a DataArray or Dataset, a Plotly figure.

        With `deserialize_plotly=False` a figure is its JSON text. Pictures are uint8 of shape
        (y, x, 4). What people filled in is as the table has it. Raises KeyError for a variable that
        gave a summary only.
        """
        if self._filled_in:
            return self.summary()
        try:
            return self._results.with_source(
                self.name,
                lambda source: source.read(self.name, deserialize_plotly=deserialize_plotly),
            )
        except (KeyError, FileNotFoundError) as error:
            if self.summary() is None:
                raise
            raise KeyError(
                f"{self.name} of run {self.run} has only a summary, and no data in "
                f"{self.file.name}; summary() gives it"
            ) from error

    def summary(self) -> Any:
        """What the table shows: a number, a text, an array, PNG as bytes, None for nothing.

        A sparkline is an array of shape (2, n), x above y; a moment is in seconds since 1970.
        """
        cell = self._results.cells().get(self.name)
        return None if cell is None else cell.shown()

    def type_hint(self) -> DataType | None:
        """What the data are, None for numbers, texts, plain arrays and what people filled in."""
        if self._filled_in:
            return None
        try:
            return self._results.with_source(self.name, lambda source: source.type_hint(self.name))
        except FileNotFoundError:  # a summary needs no file
            return None

    def preview_data(self, *, data_fallback: bool = True, deserialize_plotly: bool = True) -> Any:
        """What to draw for the variable, None if there is nothing that can be.

        An array of numbers of one or two dimensions, a picture of shape (y, x, 3 or 4), or a Plotly
        figure: the preview that the variable gave or, with `data_fallback`, the data themselves.
        """
        if self._filled_in:
            return None

        def read(source: Source) -> tuple[Any, DataType | None]:
            found = source.preview(self.name, deserialize_plotly=deserialize_plotly)
            own = found is not None
            if not own and data_fallback:
                with suppress(KeyError):  # a summary, or a preview, may be all there is
                    found = source.read(self.name, deserialize_plotly=deserialize_plotly)
            return found, source.type_hint(self.name, preview=own)

        try:
            found, hint = self._results.with_source(self.name, read)
        except FileNotFoundError:  # a summary needs no file
            return None
        if hint is not None and hint.name == "PlotlyFigure":
            return found
        return found if _can_be_drawn(found) else None

    def preview(self) -> Any:
        """Draw the preview with Matplotlib, or give a Plotly figure, as a notebook shows it.

        Raises ValueError when there is nothing to draw.
        """
        data = self.preview_data()
        if data is None:
            raise ValueError(f"{self.name} of run {self.run} has nothing that can be drawn")
        if hasattr(data, "to_plotly_json"):
            return data
        import matplotlib.pyplot as plt

        if data.ndim == 3:
            return plt.imshow(data)
        if hasattr(data, "plot"):
            return data.plot()
        return plt.plot(data) if data.ndim == 1 else plt.imshow(data)

    def __repr__(self) -> str:
        return f"<VariableData for {self.name!r} in p{self.proposal}, r{self.run}>"


def _can_be_drawn(value: Any) -> bool:
    ndim, dtype = getattr(value, "ndim", None), getattr(value, "dtype", None)
    if ndim is None or dtype is None or dtype.kind not in "biufcm":
        return False
    return ndim in (1, 2) or (ndim == 3 and value.shape[-1] in (3, 4))
