"""Reading a run file or a fragment."""

from __future__ import annotations

import errno
import json
from enum import Enum
from pathlib import Path
from typing import Any

import h5py

from ctxlib.attributes import read_own
from ctxlib.errors import nearest
from ctxlib.layout import HIDDEN, ORIGIN, START_TIME, object_type, read_object, read_summary
from ctxlib.summary import Summary


class DataType(Enum):
    """What a variable's data are, where that is more than numbers, texts and plain arrays.

    Series and DataFrame are only in files that DAMNIT wrote.
    """

    DataArray = "dataarray"
    Dataset = "dataset"
    Image = "image"
    Timestamp = "timestamp"
    PlotlyFigure = "PlotlyFigure"
    Series = "series"
    DataFrame = "dataframe"

    @classmethod
    def of(cls, objtype: str | None) -> DataType | None:
        """The member for the object type in a file; None for none, or one that is unknown."""
        return next((member for member in cls if member.value == objtype), None)


def open_file(path: Path) -> h5py.File:
    """Open an HDF5 file for reading, once more if it was replaced on a network filesystem.

    Published files never change, so no lock is needed, and none is left that others would meet.
    """
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return h5py.File(path, "r", locking=False)


class RunFile:
    """A run file or a fragment, open for reading; a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_file(path)

    def __enter__(self) -> RunFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def names(self) -> list[str]:
        """The variables of which the file knows anything, errors included, sorted."""
        found = {name for name in self._file if name not in HIDDEN}
        for part in HIDDEN:
            found.update(self._file.get(part, ()))
        return sorted(found - {START_TIME})

    def data_names(self) -> list[str]:
        """The variables that have data or a preview, or had a Cell around nothing, sorted."""
        return sorted(name for name in self._file if name not in HIDDEN)

    def read(self, name: str, *, deserialize_plotly: bool = True) -> Any:
        """The data of a variable; a Plotly figure, or its JSON without `deserialize_plotly`.

        Raises KeyError if the file has no data of that name.
        """
        item = self._file.get(name)
        # A Dataset of nothing is an empty group, and a value.
        nothing = isinstance(item, h5py.Group) and not len(item) and not object_type(item)
        if item is None or nothing:
            others = [other for other in self.names() if other != name]
            mend = nearest(name, others, otherwise="names() lists what there is")
            raise KeyError(f"{self.path.name} has no data of {name!r}; {mend}")
        return read_object(item, deserialize_plotly=deserialize_plotly)

    def summary(self, name: str) -> Summary | None:
        """What the table shows of a variable, None for nothing."""
        dataset = self._file.get(f".reduced/{name}")
        return None if dataset is None else read_summary(dataset)

    def preview(self, name: str, *, deserialize_plotly: bool = True) -> Any:
        """The preview of a variable, None if it has none of its own."""
        item = self._file.get(f".preview/{name}")
        return None if item is None else read_object(item, deserialize_plotly=deserialize_plotly)

    def type_hint(self, name: str, *, preview: bool = False) -> DataType | None:
        """What the data of a variable are, or its preview; None for numbers, texts, plain arrays
        and nothing.
        """
        item = self._file.get(f".preview/{name}" if preview else name)
        return None if item is None else DataType.of(object_type(item))

    def error(self, name: str) -> tuple[str, str] | None:
        """Class name and text of a variable's error, None if it has none."""
        dataset = self._file.get(f".errors/{name}")
        if dataset is None:
            return None
        return str(dataset.attrs.get("type", "Exception")), str(dataset.asstr()[()])

    def units(self, name: str) -> str | None:
        """The units of a variable, None if it has none."""
        summary = self.summary(name)
        return None if summary is None else summary.attributes.get("units")

    def origin(self, name: str) -> dict[str, Any] | None:
        """Where a variable's data came from, as it was told when it was written."""
        item = self._file.get(name)
        text = None if item is None else read_own(item, ORIGIN)
        return None if text is None else json.loads(text)
