"""A database folder with one run of every kind of result, and what went into it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr
from matplotlib.figure import Figure

from ctxlib import Cell
from ctxlib.files import Result, combine, write_fragment
from ctxlib.plain import encode_plain
from ctxlib.summaries import prepare
from daemon.store.rows import CellValue
from daemon.store.table import RunsTable


def drawn() -> Figure:
    figure = Figure(figsize=(4, 2))
    figure.add_subplot().plot([1, 3, 2])
    return figure


PLOTLY = go.Figure(go.Scatter(y=[1, 2, 3]))
ARRAY = xr.DataArray(
    np.arange(5.0),
    {"t": np.arange(5), "label": ("t", list("abcde"))},
    "t",
    "energy",
    {"units": "mJ"},
)
DATASET = xr.Dataset(
    {
        "a/b": (("t", "s"), np.eye(3), {"flag": True}),
        "when": ("t", np.array(["2020-01-01"] * 3, "M8[ns]")),
    },
    attrs={"note": "n", "flag": True},
)
SERIES = pd.Series([1.0, 2.0], index=pd.Index([5, 6], name="train"), name="energy")
FRAME = pd.DataFrame({"n": [1, 2], "s": ["x", "y"]})

VALUES: dict[str, Any] = {
    "number": 3,
    "real": 2.5,
    "truth": True,
    "small": np.float32(1.5),
    "large": 2**64 - 1,
    "nan": float("nan"),
    "complex": 1 + 2j,
    "text": "größer",
    "odd_text": "a\0b\udc80",
    "nothing": None,
    "moment": np.datetime64("2020-01-01T00:00:00.5"),
    "numbers": [1, 2, 3],
    "texts": ["a", "bc"],
    "zero_dim": np.array(7.5),
    "line": np.arange(1000.0),
    "empty": np.array([]),
    "half": np.arange(4, dtype="f2"),
    "flags": np.array([True, False]),
    "complex_line": np.arange(3) * 1j,
    "times": np.array(["2020-01-01", "2020-01-02T00:00:00.000000001"], "M8[ns]"),
    "durations": np.array([1, 2], "m8[s]"),
    "image": np.random.default_rng(1).random((40, 60)),
    "stack": np.zeros((2, 3, 4)),
    "array": ARRAY,
    "array_unnamed": xr.DataArray(np.arange(3), dims="t"),
    "array_like_dim": xr.DataArray(np.arange(3.0), {"t": [1, 2, 3]}, "t", "t"),
    "array_image": xr.DataArray(np.eye(5), dims=("a", "b")),
    "array_complex": xr.DataArray([1j, 2], dims="t"),
    "dataset": DATASET,
    "series": SERIES,
    "frame": FRAME,
    "figure": drawn(),
    "plotly": PLOTLY,
    "cell": Cell([1, 5], summary="mean", bold=True, background="#ff8000", units="kg"),
    "cell_text": Cell(np.eye(3), summary_value="fine", preview=np.arange(4)),
    "cell_array": Cell(1, preview=ARRAY),
    "cell_figure": Cell(1, preview=drawn()),
    "cell_plotly": Cell(1, preview=PLOTLY),
    "mean": (np.arange(4.0), {"summary": "mean", "units": "mm"}),
}
ERRORS = {"failed": ("ValueError", "no such motor"), "skipped": ("Skip", "not today")}


ORIGIN = {"job": "j1", "time": 1.6e9}


def save(folder: Path, name: str, value: Any) -> Result:
    """Save a value as a job does."""
    options: dict[str, str] = {}
    if isinstance(value, tuple):
        value, options = value
    prepared = prepare(value, log=print, **options)
    data = None if prepared.preview is not None else encode_plain(prepared.data)
    fragment = None
    if data is None and (prepared.data is not None or prepared.preview is not None):
        fragment = folder / f"{name}.h5"
        write_fragment(fragment, name, prepared, ORIGIN)
    return Result(name, prepared.summary, data, fragment, None, prepared.objtype, ORIGIN)


async def fill_table(folder: Path, results: Sequence[Result]) -> None:
    table = RunsTable(folder / "runs.sqlite", 1234)
    await table.open()
    names = [result.name for result in results]
    described = {"description": None, "tags": ["t"], "transient": False}
    await table.register([{"name": n, "title": f"Title of {n}", **described} for n in names])
    for run in (1, 2):
        await table.ensure_run(1234, run, 1.6e9 + run, 1.7e9)
    await table.set_results(1234, 1, [CellValue(r.name, r.summary, r.error) for r in results])
    await table.close()


def make_folder(folder: Path) -> None:
    """Fill a database folder: run 1 has every kind of result, written twice, run 2 has none."""
    results = [save(folder, name, value) for name, value in VALUES.items()]
    results += [Result(name, error=error) for name, error in ERRORS.items()]
    extracted = folder / "extracted_data"
    combine(extracted / "p1234_r1.h5", results, start_time=1.6e9)
    combine(extracted / "p1234_r1.h5", results[::2], start_time=None)
    combine(extracted / "p1234_r2.h5", [], start_time=None)
    asyncio.run(fill_table(folder, results))
