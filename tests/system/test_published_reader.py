"""The published `damnit` package reads what we wrote, and we read what its combiner made of it."""

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import xarray as xr
from matplotlib.figure import Figure

from ctxlib import Cell
from ctxlib.files import Result, RunFile, combine, write_fragment
from ctxlib.plain import encode_plain
from ctxlib.summaries import prepare
from daemon.store.rows import CellValue
from daemon.store.table import RunsTable

REPOSITORY = Path(__file__).parents[2]
READER = Path(__file__).with_name("peer_reader.py")
PEER = Path(os.environ.get("RUNTABLE_PEER_PYTHON") or REPOSITORY / ".venv-peer/bin/python")
INSTALL = "python3 -m venv .venv-peer && .venv-peer/bin/pip install damnit==0.4.0 extra_data"

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not PEER.exists(), reason=f"the published package is missing: {INSTALL}"),
]


def drawn():
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
    {"a/b": (("t", "s"), np.eye(3)), "when": ("t", np.array(["2020-01-01"] * 3, "M8[ns]"))},
    attrs={"note": "n", "flag": True},
)
SERIES = pd.Series([1.0, 2.0], index=pd.Index([5, 6], name="train"), name="energy")
FRAME = pd.DataFrame({"n": [1, 2], "s": ["x", "y"]})

VALUES = {
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


def save(folder, name, value):
    """Save a value as a job does."""
    options = {}
    if isinstance(value, tuple):
        value, options = value
    prepared = prepare(value, log=print, **options)
    data = None if prepared.preview is not None else encode_plain(prepared.data)
    fragment = None
    if data is None and (prepared.data is not None or prepared.preview is not None):
        fragment = folder / f"{name}.h5"
        write_fragment(fragment, name, prepared, {"job": "j1"})
    return Result(name, prepared.summary, data, fragment, None, prepared.objtype, {"job": "j1"})


async def fill_table(folder, results):
    table = RunsTable(folder / "runs.sqlite", 1234)
    await table.open()
    names = [result.name for result in results]
    described = {"description": None, "tags": ["t"], "transient": False}
    await table.register([{"name": n, "title": f"Title of {n}", **described} for n in names])
    for run in (1, 2):
        await table.ensure_run(1234, run, 1.6e9 + run, 1.7e9)
    await table.set_results(1234, 1, [CellValue(r.name, r.summary, r.error) for r in results])
    await table.close()


def ask(folder, run):
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out.json"
        command = [str(PEER), str(READER), str(folder), str(run), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(out.read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A database folder with one run of every kind of result, written twice, and one empty run."""
    folder = tmp_path_factory.mktemp("amore")
    results = [save(folder, name, value) for name, value in VALUES.items()]
    results += [Result(name, error=error) for name, error in ERRORS.items()]
    extracted = folder / "extracted_data"
    combine(extracted / "p1234_r1.h5", results, start_time=1.6e9)
    combine(extracted / "p1234_r1.h5", results[::2], start_time=None)
    combine(extracted / "p1234_r2.h5", [], start_time=None)
    asyncio.run(fill_table(folder, results))
    return folder


@pytest.fixture(scope="module")
def found(folder):
    return ask(folder, 1)


def test_the_keys_are_what_has_data(found):
    assert set(found["keys"]) == set(VALUES) - {"nothing"} | {"start_time"}
    assert set(found["titles"]) >= {f"Title of {name}" for name in VALUES if name != "nothing"}


def test_everything_can_be_read(found):
    for name, variable in found["variables"].items():
        for what in ("read", "preview"):
            assert variable[what]["type"] != "raised", (name, what, variable[what])


@pytest.mark.parametrize(
    "name",
    [
        *("number", "real", "truth", "small", "large", "numbers", "zero_dim", "line", "empty"),
        *("half", "flags", "complex", "complex_line", "image", "stack"),
    ],
)
def test_numbers_and_arrays_are_equal(found, name):
    value = np.asarray(VALUES[name])
    read = found["variables"][name]["read"]
    assert np.dtype(read["dtype"]).kind == value.dtype.kind
    values = np.array(read["values"], complex) if value.dtype.kind == "c" else read["values"]
    np.testing.assert_array_equal(values, value)


def test_texts(found):
    variables = found["variables"]
    assert variables["text"]["read"] == {"type": "str", "values": "größer"}
    assert variables["odd_text"]["read"]["values"] == "a\\x00b\\udc80"
    # Arrays of texts and times have no plain form that this reader takes whole.
    assert variables["texts"]["read"]["values"] == ["a", "bc"]
    assert variables["times"]["read"]["values"] == [
        "2020-01-01T00:00:00.000000000",
        "2020-01-02T00:00:00.000000001",
    ]
    assert variables["moment"]["read"]["values"] == 1577836800500000000


def as_xarray(read):
    if read["type"] == "Dataset":
        return xr.Dataset({name: as_xarray(member) for name, member in read["members"].items()})
    assert read["type"] == "DataArray"
    values = read["values"]
    if values and isinstance(values[0], str) and "j" in values[0]:
        values = np.array(values, complex)
    array = xr.DataArray(values, dims=read["dims"], name=read["name"])
    array.attrs = {name: attr["values"] for name, attr in read["attrs"].items()}
    return array


@pytest.mark.parametrize("name", ["array", "array_unnamed", "array_like_dim", "array_image"])
def test_dataarrays_are_equal(found, name):
    array = VALUES[name]
    read = found["variables"][name]["read"]
    xr.testing.assert_identical(as_xarray(read), array.drop_vars(array.coords))
    coords = {key: coord["values"] for key, coord in read["coords"].items()}
    assert coords == {key: coord.values.tolist() for key, coord in array.coords.items()}


def test_other_xarray_and_pandas_objects(found):
    variables = found["variables"]
    dataset = as_xarray(variables["dataset"]["read"])
    assert set(dataset) == {"a_b", "when"}
    np.testing.assert_array_equal(dataset["a_b"], np.eye(3))
    assert variables["array_complex"]["read"]["values"] == ["1j", "(2+0j)"]
    series = variables["series"]["read"]
    assert series["name"] == "energy"
    assert series["values"] == [1.0, 2.0]
    assert series["coords"]["train"]["values"] == [5, 6]
    frame = as_xarray(variables["frame"]["read"])
    assert frame["s"].values.tolist() == ["x", "y"]


def test_figures(found):
    variables = found["variables"]
    assert np.shape(variables["figure"]["read"]["values"]) == (200, 400, 4)
    assert variables["plotly"]["read"]["type"] == "Figure"
    assert go.Figure(json.loads(variables["plotly"]["read"]["values"])) == PLOTLY


def test_previews(found):
    previews = {name: variable["preview"] for name, variable in found["variables"].items()}
    assert previews["cell_text"]["values"] == [0, 1, 2, 3]
    assert previews["cell_array"]["type"] == "DataArray"
    assert np.shape(previews["cell_figure"]["values"]) == (200, 400, 4)
    assert previews["cell_plotly"]["type"] == "Figure"
    assert previews["line"]["values"] == list(range(1000))
    assert previews["stack"]["type"] != "raised"


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("number", "int", 3),
        ("real", "float", 2.5),
        ("truth", "int", 1),
        ("large", "float", float(2**64 - 1)),
        ("nan", "NoneType", None),
        ("complex", "complex", [1, 2]),
        ("text", "str", "größer"),
        ("moment", "float", 1577836800.5),
        ("texts", "str", "string: (2,)"),
        ("numbers", "ndarray", [[0, 1, 2], [1, 2, 3]]),
        ("stack", "str", "float64: (2, 3, 4)"),
        ("dataset", "str", "Dataset (0.00MB)"),
        ("cell", "float", 3.0),
        ("cell_text", "str", "fine"),
        ("mean", "float", 1.5),
        ("zero_dim", "float", 7.5),
    ],
)
def test_summaries(found, name, kind, value):
    summary = found["variables"][name]["summary"]
    assert (summary["type"], summary["values"]) == (kind, value)


@pytest.mark.parametrize("name", ["image", "array_image", "figure", "plotly", "cell_figure"])
def test_thumbnails(found, name):
    summary = found["variables"][name]["summary"]
    assert summary["type"] == "bytes"
    assert bytes.fromhex(summary["values"]).startswith(b"\x89PNG")


def test_units(found):
    units = {name: v["units"] for name, v in found["variables"].items() if v["units"]}
    assert units == {"array": "mJ", "cell": "kg", "mean": "mm"}


def test_the_table(found):
    full, empty = found["table"]
    assert full["Run"]["values"] == 1
    assert empty["Run"]["values"] == 2
    assert full["Title of number"]["values"] == 3
    assert full["Title of image"]["values"] == "<thumbnail>"
    assert full["Title of line"]["values"] == "<sparkline>"
    assert full["Title of text"]["values"] == "größer"
    names, _ = found["names"]
    assert set(names) >= set(VALUES) | set(ERRORS)
    assert not [column for column, value in full.items() if value["type"] == "raised"]


def test_an_empty_run(folder):
    assert ask(folder, 2)["keys"] == []


def test_its_combiner_and_ours_take_turns(folder, tmp_path):
    """A fragment of theirs goes into a file of ours, and stays there when we write it again."""
    copy = tmp_path / "amore"
    shutil.copytree(folder, copy)
    target = copy / "extracted_data" / "p1234_r1.h5"
    value = prepare(xr.DataArray(np.arange(9.0), dims="t", name="new"), log=print)
    fragment = target.with_name("p1234_r1.abcdef.ready.h5")
    write_fragment(fragment, "nothing", value, None)
    command = [str(PEER), "-m", "damnit.cli", "combiner", "now", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not fragment.exists()
    combine(target, [save(tmp_path, "number", 4)], start_time=None)
    with RunFile(target) as file:
        xr.testing.assert_identical(file.read("nothing"), value.data)
        xr.testing.assert_identical(file.read("array"), ARRAY)
        assert file.read("number") == 4
    found = ask(copy, 1)["variables"]
    assert found["array"]["read"]["values"] == [0, 1, 2, 3, 4]
