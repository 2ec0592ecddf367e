"""The published `damnit` package reads what we wrote, and we read what its combiner made of it."""

import json
import shutil
import subprocess

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr
from example_results import ARRAY, ERRORS, PLOTLY, VALUES, make_folder, save
from peer import PEER, ask, needs_peer

from ctxlib.files import RunFile, combine, write_fragment
from ctxlib.summaries import prepare

pytestmark = [
    pytest.mark.system,
    needs_peer,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A database folder with one run of every kind of result, written twice, and one empty run."""
    folder = tmp_path_factory.mktemp("amore")
    make_folder(folder)
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
    assert not variables["dataset"]["read"]["members"]["a_b"]["attrs"]
    assert variables["dataset"]["read"]["attrs"] == {"note": {"type": "str", "values": "n"}}
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
