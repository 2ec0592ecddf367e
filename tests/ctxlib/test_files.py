"""Fragments and run files: nothing is lost, nothing grows, nothing half-written is seen."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import h5py
import matplotlib as mpl
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from ctxlib import Cell, runfile
from ctxlib.files import (
    BrokenFragmentError,
    Result,
    RunFile,
    combine,
    write_fragment,
)
from ctxlib.plain import decode_plain, encode_plain
from ctxlib.summaries import prepare
from ctxlib.summary import PLOTLY_PLACEHOLDER, Summary

mpl.use("Agg")


@pytest.fixture
def run_file(tmp_path):
    return tmp_path / "extracted_data" / "p1234_r42.h5"


def result(folder, name, value, **options):
    """Save a value as the runner does: in the journal if it is plain, else in a fragment."""
    prepared = prepare(value, log=print, **options)
    data = None if prepared.preview is not None else encode_plain(prepared.data)
    fragment = None
    if data is None and (prepared.data is not None or prepared.preview is not None):
        fragment = folder / f"{name}.h5"
        write_fragment(fragment, name, prepared, {"job": "j1"})
    return Result(name, prepared.summary, data, fragment, None, prepared.objtype, {"job": "j1"})


def publish(target, values, **options):
    fragments = target.parent.parent
    combine(target, [result(fragments, *item) for item in values.items()], start_time=1.5e9)


def contents(path):
    with RunFile(path) as file:
        return {name: file.read(name) for name in file.names()}


def leftovers(target):
    return sorted(path.name for path in target.parent.iterdir() if path != target)


ARRAYS = [
    np.arange(1000.0),
    np.array([], "i4"),
    np.arange(5, dtype=">u2"),
    np.array([True, False]),
    np.arange(5, dtype="f2"),
    np.arange(4) * 1j,
    np.zeros((2, 3, 4)),
    np.array(["2020-01-01", "NaT"], "M8[ns]"),
    np.array([[1, 2]], "m8[s]"),
    np.array(["a", "bcµ"]),
    np.array([["a"], ["b"]]),
    np.array([], "U3"),
    np.array([(1, 2.5)], [("a", "i4"), ("b", "f8")]),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}-{array.shape}")
def test_arrays_come_back_equal(run_file, array):
    drawable = array.ndim in (1, 2) and array.dtype.kind in "biufc"
    publish(run_file, {"x": array, "listed": Cell(3, preview=array if drawable else None)})
    with RunFile(run_file) as file:
        found = file.read("x")
        assert isinstance(found, np.ndarray)
        assert found.dtype.kind == array.dtype.kind
        np.testing.assert_array_equal(found, array)
        if drawable:
            np.testing.assert_array_equal(file.preview("listed"), array)


SCALARS = [
    *(3, 2.5, True, "text", "", 1 + 2j, float("inf"), 2**64 - 1),
    *(np.float32(1.1), np.bool_(False), np.uint8(7), np.complex64(1j), np.longdouble(0.1)),
    *(np.datetime64("2020-01-01T00:00:00.123456789"), np.timedelta64(5, "ns"), "x" * 9000),
]


@pytest.mark.parametrize(
    "value", SCALARS, ids=lambda value: f"{type(value).__name__}-{value!s:.20}"
)
def test_scalars_come_back_of_the_same_kind(run_file, value):
    publish(run_file, {"x": value})
    found = contents(run_file)["x"]
    assert found == value
    assert np.asarray(found).dtype.kind == np.asarray(value).dtype.kind
    if isinstance(value, np.generic):
        assert found.dtype == value.dtype


def test_a_single_record_a_matrix_and_a_range_come_back(run_file):
    record = np.array((1, 2.5), [("a", "i4"), ("b", "f8")])
    matrix = np.array([[1, 2], [3, 4]]).view(np.matrix)
    publish(run_file, {"record": record, "matrix": matrix, "range": range(3)})
    found = contents(run_file)
    assert found["record"] == record
    assert found["matrix"].tolist() == [[1, 2], [3, 4]]
    assert found["range"].tolist() == [0, 1, 2]


def test_a_dataset_of_nothing_comes_back(run_file):
    publish(run_file, {"x": xr.Dataset(attrs={"note": "n"})})
    xr.testing.assert_identical(contents(run_file)["x"], xr.Dataset(attrs={"note": "n"}))


def test_lists_come_back_as_arrays(run_file):
    publish(run_file, {"numbers": [1, 2], "texts": ("a", "b"), "rows": [[1.0], [2.0]]})
    found = contents(run_file)
    assert found["numbers"].tolist() == [1, 2]
    assert found["texts"].tolist() == ["a", "b"]
    assert found["rows"].shape == (2, 1)


def test_xarray_and_pandas_objects_come_back_identical(run_file):
    array = xr.DataArray(np.arange(5.0), {"t": np.arange(5)}, "t", "energy", {"units": "mJ"})
    dataset = xr.Dataset({"a": ("t", [1, 2]), "b": ("s", ["x"])}, attrs={"note": "n"})
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    publish(run_file, {"array": array, "dataset": dataset, "frame": frame, "bare": array[0]})
    found = contents(run_file)
    xr.testing.assert_identical(found["array"], array)
    xr.testing.assert_identical(found["dataset"], dataset)
    xr.testing.assert_identical(found["bare"], array[0])
    assert found["frame"].to_dataframe()[["a", "b"]].equals(frame)


def test_figures(run_file):
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(2, 1))
    figure = go.Figure(go.Scatter(y=[1, 2, 3]))
    publish(run_file, {"drawn": drawn, "plotly": figure, "both": Cell(1, preview=figure)})
    with RunFile(run_file) as file:
        assert file.read("drawn").shape == (100, 200, 4)
        assert file.read("plotly") == figure
        assert file.preview("both") == figure
        assert file.read("plotly", deserialize_plotly=False) == figure.to_json()
        assert file.preview("both", deserialize_plotly=False) == figure.to_json()
        assert file.summary("plotly").value == PLOTLY_PLACEHOLDER
        assert file.preview("plotly") is None
    with h5py.File(run_file) as file:
        assert file["drawn"].attrs["_damnit_objtype"] == "image"
        assert file["plotly"].attrs["_damnit_objtype"] == "PlotlyFigure"
        assert file["drawn/data"].compression == "gzip"


@pytest.mark.parametrize(
    "value",
    [
        Cell([1.0, 4.0], summary="mean", bold=False, background="#010203", units="kg"),
        Cell(1, summary_value=np.arange(3)),
        *(1 + 2j, np.datetime64("2020-01-01"), np.eye(3), np.arange(500.0), float("-inf"), "text"),
        *(2**64 - 1, True),
    ],
    ids=str,
)
def test_summaries_come_back(run_file, value):
    publish(run_file, {"x": value})
    with RunFile(run_file) as file:
        assert file.summary("x") == prepare(value, log=print).summary
        assert file.units("x") == ("kg" if isinstance(value, Cell) and value.units else None)


def test_a_cell_with_only_a_preview_has_no_data(run_file):
    publish(run_file, {"x": Cell(None, preview=np.arange(3))})
    with RunFile(run_file) as file:
        assert file.names() == ["x"]
        assert file.preview("x").tolist() == [0, 1, 2]
        with pytest.raises(KeyError, match="no data of 'x'"):
            file.read("x")


def test_reading_what_is_not_there_names_the_nearest(run_file):
    publish(run_file, {"energy": 3})
    with RunFile(run_file) as file:
        with pytest.raises(KeyError, match=r"p1234_r42.h5 has no data of 'enrgy'.*'energy'"):
            file.read("enrgy")
        assert file.summary("enrgy") is None
        assert file.preview("enrgy") is None
        assert file.error("enrgy") is None
        assert file.units("enrgy") is None
        assert file.origin("enrgy") is None


def test_origins_are_kept(run_file):
    publish(run_file, {"plain": 3, "array": np.arange(3), "failed": 4})
    failed = Result("failed", error=("ValueError", "bad"), origin={"job": "j2"})
    combine(run_file, [failed], start_time=None)
    with RunFile(run_file) as file:
        assert file.origin("plain") == file.origin("array") == {"job": "j1"}


def test_types_and_origins_are_read_as_earlier_versions_spelled_them(run_file):
    moment, texts = np.datetime64("2020-01-01T00:00:00.5", "ns"), np.array(["a", "b"])
    publish(run_file, {"moment": moment, "texts": texts})
    with h5py.File(run_file, "r+") as file:
        for item in (file["moment"], file["moment/data"], file["texts"]):
            for name in [name for name in item.attrs if "runtable" in name]:
                item.attrs[name.removeprefix("_damnit")] = item.attrs[name]
                del item.attrs[name]
    found = contents(run_file)
    assert found["moment"] == moment
    assert isinstance(found["texts"], np.ndarray)
    with RunFile(run_file) as file:
        assert file.origin("moment") == {"job": "j1"}


def test_an_error_takes_the_place_of_a_result_and_the_other_way_round(run_file):
    publish(run_file, {"x": np.arange(3), "kept": 1})
    combine(run_file, [Result("x", error=("ValueError", "bad\0\udc80"))], start_time=None)
    with RunFile(run_file) as file:
        assert file.error("x") == ("ValueError", "bad\\x00\\udc80")
        assert file.summary("x") is None
        with pytest.raises(KeyError):
            file.read("x")
        assert file.read("kept") == 1
    publish(run_file, {"x": 5})
    with RunFile(run_file) as file:
        assert file.error("x") is None
        assert file.read("x") == 5


def test_nothing_returned_clears_the_variable(run_file):
    publish(run_file, {"x": Cell(np.arange(3), preview=np.eye(2)), "y": 1})
    combine(run_file, [Result("x", Summary())], start_time=None)
    assert contents(run_file) == {"y": 1}


def test_no_results_make_a_file_that_readers_accept(run_file):
    combine(run_file, [], start_time=None)
    with h5py.File(run_file) as file:
        assert sorted(file) == [".errors", ".preview", ".reduced"]
    combine(run_file, [], start_time=12.5)
    combine(run_file, [], start_time=None)
    with h5py.File(run_file) as file:
        assert file[".reduced/start_time"][()] == 12.5
        assert file["start_time/data"][()] == 12.5
    assert contents(run_file) == {}


def test_of_two_results_of_one_name_the_later_counts(run_file, tmp_path):
    combine(run_file, [result(tmp_path, "x", 1), result(tmp_path, "x", 2)], start_time=None)
    assert contents(run_file) == {"x": 2}


def many(number):
    values = np.arange(2000.0) + number
    return {
        "array": xr.DataArray(values, {"t": np.arange(2000)}, "t"),
        "bare": xr.DataArray(values.reshape(2, 1000), dims=("a", "b")),
        "complex": xr.DataArray(values * 1j, dims="t"),
        "shown": Cell(3, preview=xr.DataArray(values, dims="t")),
        "texts": ["a", "b"],
        "image": values.reshape(40, 50),
        "number": number,
    }


def test_reprocessing_never_makes_a_file_grow(run_file):
    publish(run_file, many(0))
    first = run_file.stat().st_size
    written, taken_over = set(), set()
    for _ in range(20):
        publish(run_file, many(0))
        written.add(run_file.stat().st_size)
        combine(run_file, [], start_time=None)
        taken_over.add(run_file.stat().st_size)
    assert written == {first}
    assert len(taken_over) == 1
    assert leftovers(run_file) == []


def test_dimensions_survive_moving_between_files(run_file):
    publish(run_file, many(0))
    publish(run_file, {"other": many(1)["bare"], "array": many(2)["array"]})
    combine(run_file, [], start_time=None)
    expected = {**many(0), "other": many(1)["bare"], "array": many(2)["array"]}
    found = contents(run_file)
    for name in ("array", "bare", "other", "complex"):
        xr.testing.assert_identical(found[name], expected[name])
        read = xr.load_dataarray(run_file, group=name, engine="h5netcdf")
        xr.testing.assert_identical(read, expected[name])
    preview = xr.load_dataarray(run_file, group=".preview/shown", engine="h5netcdf")
    assert preview.dims == ("t",)
    numbers = []

    def collect(name, item):
        if isinstance(item, h5py.Dataset) and h5py.h5ds.is_scale(item.id):
            numbers.append(int(item.attrs["_Netcdf4Dimid"]))

    with h5py.File(run_file) as file:
        file.visititems(collect)
    assert len(numbers) == 8
    assert len(set(numbers)) == 8


def test_a_file_of_the_peer_keeps_what_is_not_ours(run_file):
    run_file.parent.mkdir()
    with h5py.File(run_file, "w") as file:
        file[".reduced/old"] = 3
        file["old/data"] = 3
        file["series/data"] = np.zeros(3)
        file[".private/x"] = 1
    publish(run_file, {"x": 5})
    with h5py.File(run_file) as file:
        assert file["old/data"][()] == 3
        assert file[".private/x"][()] == 1
        assert set(file[".reduced"]) == {"old", "start_time", "x"}


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize("damage", ["no HDF5", "empty", "cut short"])
def test_an_unreadable_old_file_is_kept_aside(run_file, tmp_path, damage):
    publish(run_file, many(0))
    content = {"no HDF5": b"junk", "empty": b"", "cut short": run_file.read_bytes()[:5000]}[damage]
    for number in (1, 2):
        run_file.write_bytes(content)
        aside = combine(run_file, [result(tmp_path, "x", 5)], start_time=None)
        assert aside == run_file.with_name(f"p1234_r42.h5.unreadable-{number}")
        assert aside.read_bytes() == content
        assert contents(run_file) == {"x": 5}


def test_what_is_whole_of_a_damaged_file_is_taken_over(run_file, tmp_path):
    publish(run_file, {"good": np.arange(3), "bad": np.random.default_rng(1).random(2000)})
    with h5py.File(run_file) as file:
        header = h5py.h5o.get_info(file["bad/data"].id).addr
    content = bytearray(run_file.read_bytes())
    content[header : header + 16] = b"\xff" * 16
    run_file.write_bytes(content)
    aside = combine(run_file, [result(tmp_path, "x", 5)], start_time=None)
    assert aside is not None
    assert aside.read_bytes() == content
    with RunFile(run_file) as file:
        assert file.read("x") == 5
        assert file.read("good").tolist() == [0, 1, 2]
        assert file.summary("bad").type == "trendline"
        with pytest.raises(KeyError):
            file.read("bad")


def test_a_file_that_may_not_be_read_is_no_damaged_one(run_file, monkeypatch):
    publish(run_file, {"x": 1})

    def refuse(self, *arguments):
        raise PermissionError(errno.EACCES, "not yours", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError):
        combine(run_file, [], start_time=None)
    monkeypatch.undo()
    assert contents(run_file) == {"x": 1}
    assert leftovers(run_file) == []


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_failing_disk_leaves_the_old_file(run_file, tmp_path, monkeypatch, call):
    publish(run_file, many(0))
    before = run_file.read_bytes()
    new = result(tmp_path, "x", np.arange(3))

    def fail(*arguments):
        raise OSError(errno.EIO, "the disk is on fire")

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="on fire"):
        combine(run_file, [new], start_time=None)
    assert run_file.read_bytes() == before
    assert leftovers(run_file) == []


def in_a_small_space(code, *arguments):
    """Run Python code in a process that can write files of at most 100 kB, as on a full disk."""
    head = (
        "import resource, sys, signal, pathlib, numpy as np\n"
        "from ctxlib.files import *\nfrom ctxlib.summaries import prepare\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    )
    command = [sys.executable, "-c", head + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Exception ignored" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_a_full_disk_leaves_the_old_file(run_file, tmp_path):
    noise = np.random.default_rng(1).random(10_000)
    publish(run_file, {"a": noise, "b": noise, "c": noise})
    before = run_file.read_bytes()
    assert len(before) > 200_000
    error = in_a_small_space("combine(path, [], start_time=None)", run_file)
    assert error == f"OSError: [Errno 27] File too large: '{run_file}'"
    assert run_file.read_bytes() == before
    assert leftovers(run_file) == []


def test_a_full_disk_leaves_no_fragment(tmp_path):
    code = (
        "noise = np.random.default_rng(1).random(100_000)\n"
        "write_fragment(path, 'x', prepare(noise, log=print), None)\n"
    )
    assert in_a_small_space(code, tmp_path / "x.h5").startswith("OSError: [Errno 27]")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed(run_file):
    publish(run_file, {"x": 1})
    other = run_file.with_name(".p1234_r4.h5.0000.tmp")
    mine = run_file.with_name(".p1234_r42.h5.0000.tmp")
    for path in (mine, other):
        path.write_bytes(b"half")
    publish(run_file, {"y": 1})
    assert leftovers(run_file) == [other.name]


def test_a_fragment_that_is_not_whole_is_named(run_file, tmp_path):
    publish(run_file, {"x": 1})
    before = run_file.read_bytes()
    good = result(tmp_path, "x", np.random.default_rng(1).random(5000))
    content = good.fragment.read_bytes()
    for damaged in (b"", content[:2000], content[:-100]):
        good.fragment.write_bytes(damaged)
        with pytest.raises(BrokenFragmentError, match=r"x\.h5") as caught:
            combine(run_file, [good], start_time=None)
        assert caught.value.variable == "x"
    good.fragment.unlink()
    with pytest.raises(BrokenFragmentError):
        combine(run_file, [good], start_time=None)
    assert run_file.read_bytes() == before
    assert leftovers(run_file) == []


def test_a_fragment_of_another_variable_is_refused(run_file, tmp_path):
    other = result(tmp_path, "other", np.arange(3))
    with pytest.raises(BrokenFragmentError, match="does not hold"):
        combine(run_file, [Result("x", fragment=other.fragment)], start_time=None)


def test_a_file_replaced_on_a_network_disk_is_opened_again(run_file, monkeypatch):
    publish(run_file, {"x": 1})
    real, calls = h5py.File, []

    def stale_once(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 1:
            raise OSError(errno.ESTALE, "stale file handle")
        return real(*arguments, **options)

    monkeypatch.setattr(runfile.h5py, "File", stale_once)
    assert contents(run_file) == {"x": 1}


def test_the_combining_process_does_without_xarray(run_file, tmp_path):
    results = [result(tmp_path, name, value) for name, value in many(0).items()]
    code = (
        "import sys, pathlib\n"
        "from ctxlib.files import combine, Result\n"
        "target, *fragments = map(pathlib.Path, sys.argv[1:])\n"
        "combine(target, [Result(f.stem, fragment=f) for f in fragments], start_time=1.0)\n"
        "print([m for m in ('xarray', 'pandas', 'matplotlib') if m in sys.modules])\n"
    )
    fragments = [str(r.fragment) for r in results if r.fragment]
    command = [sys.executable, "-c", code, str(run_file), *fragments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
    xr.testing.assert_identical(contents(run_file)["array"], many(0)["array"])


# ---------------------------------------------------------------- plain results


@given(
    st.one_of(
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(),
        st.complex_numbers(),
        st.text(max_size=100),
        st.floats(width=32).map(np.float32),
        st.integers(0, 255).map(np.uint8),
        st.integers(-(2**63), 2**63 - 1).map(lambda n: np.int64(n).view("M8[ns]")),
    )
)
def test_plain_results_travel_as_json(value):
    import json

    data = encode_plain(value)
    found = decode_plain(json.loads(json.dumps(data, allow_nan=False)))
    assert type(found) is type(value)
    np.testing.assert_equal(found, value)


@pytest.mark.parametrize(
    "value", [None, np.arange(3), "x" * 8001, xr.DataArray(1), np.longdouble(1)]
)
def test_what_is_not_plain_needs_a_fragment(value):
    assert encode_plain(value) is None


def test_a_multi_index_is_saved_by_its_levels(tmp_path):
    index = pd.MultiIndex.from_product([[1, 2], ["a", "b"]], names=["train", "pulse"])
    coordinates = xr.Coordinates.from_pandas_multiindex(index, "t")
    array = xr.DataArray(np.arange(4.0), dims="t", coords=coordinates)
    prepared = prepare(array, log=print)
    write_fragment(tmp_path / "x.h5", "x", prepared, {})
    with RunFile(tmp_path / "x.h5") as file:
        xr.testing.assert_identical(file.read("x"), array)
