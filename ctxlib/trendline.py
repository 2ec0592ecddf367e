"""A line reduced to a few points that keep its features, for the sparkline in a table cell."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

POINTS = 150


def trendline(y: npt.NDArray[Any], x: npt.NDArray[Any] | None = None) -> npt.NDArray[np.float64]:
    """Reduce a line to float64 of shape (2, n), x above y, with n at most 150.

    `x` are the coordinates (None: the positions). Of each of 75 buckets the smallest and the
    largest value stay, in their order, so that no peak is lost; NaN are left out where a bucket
    has anything else. Times become seconds since the epoch, complex numbers their magnitude.
    """
    values = as_numbers(y)
    kept = _extremes(values)
    line = np.empty((2, len(kept)))
    line[0] = kept if x is None else as_numbers(x[kept])
    line[1] = values[kept]
    return line


def as_numbers(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Real numbers for any numeric or time array: seconds for times, magnitudes for complex."""
    if values.dtype.kind in "mM":
        unit = np.dtype("timedelta64[ns]" if values.dtype.kind == "m" else "datetime64[ns]")
        seconds = values.astype(unit).view(np.int64) / 1e9
        return np.where(np.isnat(values), np.nan, seconds)
    return np.abs(values) if values.dtype.kind == "c" else values


def _extremes(values: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Positions of the smallest and largest value of each bucket, or of all where they fit."""
    if len(values) <= POINTS:
        return np.arange(len(values))
    size = -(-len(values) // (POINTS // 2))
    full = len(values) // size
    starts = np.arange(full) * size
    body, rest = values[: full * size].reshape(full, size), values[full * size :]
    found = [starts + place for place in _bucket_extremes(body)]
    if len(rest):
        found += [full * size + place for place in _bucket_extremes(rest[None])]
    return np.unique(np.concatenate(found))


def _bucket_extremes(
    buckets: npt.NDArray[Any],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    low, high = buckets.argmin(axis=1), buckets.argmax(axis=1)
    if buckets.dtype.kind == "f":
        # argmin and argmax stop at a NaN: only buckets that have one are looked at again.
        rows = np.flatnonzero(np.isnan(buckets[np.arange(len(buckets)), low]))
        if len(rows):
            holed = buckets[rows]
            missing = np.isnan(holed)
            low[rows] = np.where(missing, np.inf, holed).argmin(axis=1)
            high[rows] = np.where(missing, -np.inf, holed).argmax(axis=1)
    return low, high
