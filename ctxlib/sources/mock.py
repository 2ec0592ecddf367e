"""A run that is not there, to try out context files without data."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctxlib.sources import OpenedRun, Request

_START = 1_500_000_000
_TRAINS = 10


class MockRun:
    """Ten trains at 10 Hz; any source with any key gives 0.0 to 9.0, one number a train."""

    def __init__(self, first: int = 0, last: int = _TRAINS) -> None:
        self.train_ids = list(range(first, last))
        self.files: list[object] = []

    def train_timestamps(self) -> np.ndarray[Any, Any]:
        """Times of the trains, datetime64[ns]."""
        nanoseconds = _START * 10**9 + np.array(self.train_ids, dtype=np.int64) * 10**8
        return nanoseconds.astype("datetime64[ns]")

    def select_trains(self, trains: slice) -> MockRun:
        """The same run with the trains of a slice."""
        chosen = self.train_ids[trains]
        return MockRun(chosen[0], chosen[-1] + 1) if chosen else MockRun(0, 0)

    def __getitem__(self, source_and_key: tuple[str, str]) -> MockKeyData:
        return MockKeyData(self)


class MockKeyData:
    """The numbers of one source and key."""

    def __init__(self, run: MockRun) -> None:
        self._run = run

    def ndarray(self) -> np.ndarray[Any, Any]:
        """One number a train."""
        return np.array(self._run.train_ids, dtype=np.float64)

    def xarray(self) -> Any:
        """The numbers with their train ids as coordinate `trainId`."""
        import xarray as xr

        trains = self._run.train_ids
        return xr.DataArray(self.ndarray(), dims="trainId", coords={"trainId": trains})


def preload() -> None:
    """There is nothing to import."""


def available_data(request: Request) -> str:
    """All that is asked for."""
    return str(request["data"])


def open_run(_request: Request) -> OpenedRun:
    """A run without files."""
    return OpenedRun(MockRun(), float(_START))
