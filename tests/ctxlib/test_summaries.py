"""What the table shows of each kind of result."""

import datetime as dt
import io
import json
import struct
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from ctxlib import Cell
from ctxlib.errors import UnsavableError
from ctxlib.images import array_thumbnail, picture_thumbnail
from ctxlib.plain import encode_plain
from ctxlib.summaries import prepare
from ctxlib.summary import PLOTLY_PLACEHOLDER, Summary
from ctxlib.trendline import trendline

mpl.use("Agg")


def silent(message):
    raise AssertionError(f"nothing to say was expected, got: {message}")


def prepared(value, **options):
    return prepare(value, **{"log": silent, **options})


def summary(value, **options):
    return prepared(value, **options).summary


def line(value):
    found = summary(value)
    assert found.type == "trendline"
    return np.load(io.BytesIO(found.value))


def picture(found):
    assert found.type is None
    return Image.open(io.BytesIO(found.value))


@pytest.mark.parametrize(
    ("value", "shown", "kind"),
    [
        (3, 3, None),
        (2.5, 2.5, None),
        (True, True, None),
        ("text", "text", None),
        (None, None, None),
        (b"bytes", "bytes", None),
        ("a\0b\udc80", "a\\x00b\\udc80", None),
        (np.float32(1.5), 1.5, None),
        (np.bool_(True), True, None),
        (np.uint64(2**64 - 1), float(2**64 - 1), None),
        (2**63, float(2**63), None),
        (np.longdouble(1.5), 1.5, None),
        (np.array(7), 7, None),
        (xr.DataArray(5.0), 5.0, None),
        (1 + 2j, struct.pack("<dd", 1, 2), "complex"),
        (np.complex64(1 + 2j), struct.pack("<dd", 1, 2), "complex"),
        (np.datetime64("2020-01-01T00:00:00.5"), 1577836800.5, "timestamp"),
        (dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc), 1577836800.0, "timestamp"),
        (pd.Timestamp("2020-01-01", tz="UTC"), 1577836800.0, "timestamp"),
        (np.datetime64("NaT", "ns"), None, None),
        (np.timedelta64(90, "s"), 90.0, None),
        (np.zeros((2, 3, 4), "f4"), "float32: (2, 3, 4)", None),
        (xr.DataArray(np.zeros((2, 3, 4))), "float64: (2, 3, 4)", None),
        (["a", "b"], "string: (2,)", None),
        (np.zeros((0, 5)), "float64: (0, 5)", None),
        (xr.Dataset({"a": ("x", np.zeros(153750))}), "Dataset (1.23MB)", None),
        (pd.DataFrame({"a": np.zeros(100_000)}), "Dataset (1.60MB)", None),
    ],
)
def test_value_and_type(value, shown, kind):
    found = summary(value)
    assert (found.value, found.type) == (shown, kind)
    assert type(found.value) is type(shown)


@pytest.mark.parametrize("value", [[1, 4, 2], (1, 4, 2), np.array([1, 4, 2]), pd.Series([1, 4, 2])])
def test_short_lines_are_shown_as_they_are(value):
    np.testing.assert_array_equal(line(value), [[0, 1, 2], [1, 4, 2]])


def test_lines_lie_over_their_coordinate():
    array = xr.DataArray([5.0, 6.0], dims="t", coords={"t": [10, 30]})
    np.testing.assert_array_equal(line(array), [[10, 30], [5, 6]])
    array = array.assign_coords(t=np.array(["2020-01-01", "NaT"], "M8[ns]"))
    np.testing.assert_array_equal(line(array)[0], [1577836800.0, np.nan])
    array = array.assign_coords(t=["a", "b"])
    np.testing.assert_array_equal(line(array)[0], [0, 1])


def test_lines_of_other_kinds():
    np.testing.assert_array_equal(line(np.array([True, False]))[1], [1, 0])
    np.testing.assert_array_equal(line(np.array([3 + 4j]))[1], [5])
    np.testing.assert_array_equal(line(np.array(["1970-01-02"], "M8[D]"))[1], [86400])
    assert line(np.array([])).shape == (2, 0)


@given(hnp.arrays(float, st.integers(1, 5000), elements=st.floats(allow_nan=True, width=32)))
def test_long_lines_keep_their_extremes(values):
    found = trendline(values)
    assert found.shape[1] <= 150
    places = found[0].astype(int)
    assert (np.diff(places) > 0).all()
    np.testing.assert_array_equal(found[1], values[places])
    if not np.isnan(values).all():
        assert np.nanmax(found[1]) == np.nanmax(values)
        assert np.nanmin(found[1]) == np.nanmin(values)


def test_a_single_peak_and_a_hole_survive():
    values = np.zeros(1_000_003)
    values[765_432] = 9
    values[123_000:150_000] = np.nan
    found = trendline(values)
    assert 765_432 in found[0]
    assert np.isnan(found[1]).any()


def test_a_two_dimensional_array_is_shown_as_a_picture():
    values = np.zeros((400, 800))
    values[:, 400:] = 1
    values[:40, :40] = np.nan
    image = picture(summary(values))
    assert image.size == (300, 150)
    pixels = np.asarray(image.convert("RGBA"))
    assert pixels[5, 5, 3] == 0
    assert tuple(pixels[100, 100]) == (68, 1, 84, 255)
    assert tuple(pixels[100, 290]) == (253, 231, 37, 255)


@pytest.mark.parametrize(
    "values",
    [
        np.ones((4, 4)) * 1j,
        np.full((3, 3), np.nan),
        np.array([[np.inf, 1.0]]),
        np.array([[1.7e308, -1.7e308]]),
        np.array([[True, False]]),
        np.arange(6, dtype="u1").reshape(2, 3),
        np.zeros((1, 5000), "f2"),
        np.zeros((5000, 1), ">i4"),
        xr.DataArray(np.random.default_rng(1).random((7, 9)), dims=("a", "b")),
    ],
)
def test_every_numeric_array_has_a_picture(values):
    image = picture(summary(values))
    image.load()
    assert max(image.size) == 300
    assert min(image.size) >= 75


def test_the_picture_does_not_depend_on_a_few_hot_pixels():
    values = np.tile(np.linspace(0, 1, 100), (100, 1))
    calm = np.asarray(Image.open(io.BytesIO(array_thumbnail(values))).convert("RGB"))
    values[3, 3] = 1e9
    hot = np.asarray(Image.open(io.BytesIO(array_thumbnail(values))).convert("RGB"))
    assert np.abs(calm.astype(int) - hot).mean() < 3


def test_pictures_need_neither_pillow_nor_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert summary(np.eye(3)).value.startswith(b"\x89PNG")


def test_a_large_picture_is_averaged():
    pixels = np.zeros((600, 1200, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[::2] = 255
    small = np.asarray(Image.open(io.BytesIO(picture_thumbnail(pixels))).convert("RGB"))
    assert small.shape == (150, 300, 3)
    assert (np.abs(small.astype(int) - 128) <= 1).all()


@pytest.mark.parametrize("part", ["figure", "axes", "array of axes"])
def test_a_matplotlib_figure_is_drawn_and_closed(part):
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2)
    axes[0].plot([1, 2, 3])
    value = {"figure": figure, "axes": axes[0], "array of axes": axes}[part]
    found = prepared(value)
    assert found.objtype == "image"
    assert found.data.shape == (480, 640, 4)
    assert found.data.dtype == np.uint8
    assert picture(found.summary).size == (300, 225)
    assert plt.get_fignums() == []


def test_a_figure_without_pyplot():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1))
    figure.add_subplot().plot([1, 2])
    assert prepared(figure).data.shape == (100, 200, 4)


def test_a_plotly_figure_is_its_json_and_a_placeholder():
    import plotly.graph_objects as go

    figure = go.Figure(go.Scatter(y=[1, 2, 3]))
    found = prepared(figure)
    assert found.objtype == "PlotlyFigure"
    assert go.Figure(json.loads(found.data.tobytes())) == figure
    assert found.summary.value == PLOTLY_PLACEHOLDER
    Image.open(io.BytesIO(PLOTLY_PLACEHOLDER)).load()


@pytest.mark.parametrize(
    ("value", "difference"),
    [
        (np.array([1.0, np.nan, 4.0]), 3.0),
        (np.array([250, 3], np.uint8), 247.0),
        (np.array([-(2**63), 2**63 - 1]), 2.0**64),
        (xr.DataArray([[2.0, 5.0]]), 3.0),
        (np.array([np.nan]), None),
        (np.array([np.inf, 1.0]), None),
        (np.array([]), None),
        (np.array([True, False]), None),
        (["a"], None),
        (5, None),
        (xr.Dataset({"a": ("x", [1, 2])}), None),
        (Cell([1, 3], summary_value="text"), 2.0),
    ],
)
def test_max_diff(value, difference):
    assert summary(value).max_diff == difference


def test_a_summary_function():
    found = summary(np.arange(10), summary="mean")
    assert (found.value, found.method, found.type, found.max_diff) == (4.5, "mean", None, 9.0)
    assert summary(xr.DataArray([1.0, np.nan], dims="t"), summary="nanmax").value == 1.0
    assert summary(np.array(["1970-01-02"], "M8[D]"), summary="max").value == 86400


def test_a_summary_function_may_give_a_few_numbers():
    found = summary(np.arange(4.0), summary="sort")
    assert found.type == "numpy"
    np.testing.assert_array_equal(np.load(io.BytesIO(found.value)), np.arange(4.0))


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (np.arange(3), "no_such_function"),
        (np.arange(3), "pi"),
        (["a", "b"], "mean"),
        (np.zeros(5000), "cumsum"),
        (xr.Dataset({"a": ("x", [1])}), "mean"),
    ],
)
def test_a_failing_summary_function_gives_way_to_the_default(value, name):
    said = []
    found = summary(value, summary=name, log=said.append)
    assert found == summary(value)
    assert len(said) == 1
    assert name in said[0]


@pytest.mark.parametrize(
    ("value", "options"),
    [
        ("x" * 20_000, {}),
        (Cell("x" * 20_000, summary="max"), {}),
        (Cell(1, summary_value="x" * 20_000), {}),
    ],
)
def test_a_long_text_is_cut_in_the_table_alone(value, options):
    found = prepared(value, **options, log=lambda _: None)
    assert len(found.summary.value) < 10_200
    assert "10000 characters left out here" in found.summary.value
    if found.data != 1:
        assert found.data == "x" * 20_000
        assert "the run file has them" in found.summary.value


class OddFloat(float):
    def __float__(self):
        raise RuntimeError


class OddInt(int):
    def __int__(self):
        raise RuntimeError

    __le__ = __ge__ = __lt__ = __gt__ = __int__  # type: ignore[assignment]


class OddComplex(complex):
    def __complex__(self):
        raise RuntimeError


@pytest.mark.parametrize("value", [OddFloat(2.5), OddInt(3), OddComplex(1, 2)])
def test_what_numbers_of_other_classes_make_of_themselves_does_not_matter(value):
    found = prepared(value)
    plain = type(value).__mro__[1]
    assert (type(found.data), found.data) == (plain, value)
    assert encode_plain(found.data)["type"] == plain.__name__


def test_a_cell_says_how_it_looks():
    cell = Cell([1, 2], summary="max", bold=True, background="#ff0080", units="kg")
    found = summary(cell, summary="min", units="g")
    assert found.value == 2
    assert found.attributes == {"units": "kg", "bold": True, "background": [255, 0, 128]}


def test_units_of_the_variable_win_over_those_of_the_data():
    array = xr.DataArray([1.0], dims="t", attrs={"units": "mm"})
    assert summary(array).attributes == {"units": "mm"}
    assert summary(array, units="m").attributes == {"units": "m"}
    assert summary(3).attributes == {}


def test_the_summary_value_of_a_cell_wins():
    assert summary(Cell(np.eye(3), summary="mean", summary_value="fine")).value == "fine"
    found = summary(Cell(np.eye(3), summary_value=np.arange(3)))
    assert (found.type, found.method) == ("numpy", None)
    assert summary(Cell(None, summary_value=2)).value == 2


def test_a_preview_is_shown_where_nothing_else_was_asked_for():
    found = prepared(Cell(3, preview=np.arange(4)))
    assert found.summary.type == "trendline"
    np.testing.assert_array_equal(found.preview, np.arange(4))
    assert found.data == 3
    assert prepared(Cell(3, summary_value="x", preview=np.eye(2))).summary.value == "x"


@pytest.mark.parametrize(
    ("preview", "words"),
    [
        ("text", "is a str:"),
        (3, "is a int:"),
        (np.zeros((2, 3, 4)), r"is a ndarray of 3 dimensions, shape \(2, 3, 4\), of float64:"),
        (xr.DataArray(np.zeros((2, 3, 4))), "is a DataArray of 3 dimensions"),
        (np.array(["2020-01-01"], "M8[ns]"), r"of datetime64\[ns\]:"),
        (np.array(["a"]), "of <U1:"),
        (np.array(7.5), "is a ndarray"),
        (xr.Dataset({"a": ("x", [1, 2])}), "is a Dataset:"),
    ],
)
def test_a_preview_that_cannot_be_drawn_is_refused(preview, words):
    with pytest.raises(TypeError, match=words):
        prepared(Cell(3, preview=preview))


@pytest.mark.parametrize(
    "preview", [[1, 2], np.eye(2), np.array([True]), xr.DataArray(np.eye(2)), pd.Series([1.0])]
)
def test_arrays_of_one_or_two_dimensions_are_previews(preview):
    assert prepared(Cell(3, preview=preview)).preview.ndim in (1, 2)


def test_arrays_are_not_copied():
    values = np.zeros((10, 10))
    assert prepared(values).data is values
    array = xr.DataArray(values)
    assert np.shares_memory(prepared(array).data.values, values)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"a": 1}, "dict"),
        ({1}, "set"),
        (object(), "object"),
        (np.array([object()]), "object"),
        ([1, None], "NoneType"),
        ([1, "a"], "list"),
        ([[1], [1, 2]], "list"),
        (10**30, r"int 1.000e\+30 cannot be saved"),
        (10**400, "int of 1329 bits cannot be saved"),
        (10**4000, r"return hex\(…\)"),
        (lambda: 1, "function"),
        (dt.date(1600, 1, 1), "1600-01-01"),
        (np.array([1], "m8[Y]"), "timedelta64"),
        (xr.DataArray(np.array([{}], dtype=object), name="odd"), "'odd'.*dict"),
        (Cell({"a": 1}, summary_value=3), "dict"),
        (Cell(3, preview={"a": 1}), "dict"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "'a'"),
    ],
)
def test_what_cannot_be_saved_is_refused_with_its_type(value, named):
    with pytest.raises(UnsavableError, match=named):
        prepared(value)


def test_pandas_objects_become_xarray_ones():
    index = pd.Index([5, 6], name="train")
    found = prepared(pd.Series([1.0, 2.0], index=index, name="energy"))
    expected = xr.DataArray([1.0, 2.0], {"train": [5, 6]}, dims="train", name="energy")
    xr.testing.assert_identical(found.data, expected)
    assert found.objtype == "dataarray"
    frame = pd.DataFrame(
        {
            "n": pd.array([1, None], dtype="Int64"),
            "s": pd.Series(["a", None], dtype="string"),
            "c": pd.Categorical(["u", "v"]),
            "z": pd.to_datetime(["2020-01-01"] * 2).tz_localize("Europe/Berlin"),
            7: [True, False],
        }
    )
    data = prepared(frame).data
    assert set(data.data_vars) == {"n", "s", "c", "z", "7"}
    np.testing.assert_array_equal(data.n, [1, np.nan])
    assert data.s.values.tolist() == ["a", ""]
    assert data.z.values[0] == np.datetime64("2019-12-31T23:00")
    index = pd.MultiIndex.from_tuples([(1, "a"), (1, "a")], names=["t", None])
    levels = prepared(pd.Series([1, 2], index=index)).data.coords
    assert levels["t"].values.tolist() == [1, 1]
    assert levels["level_1"].dims == ("index",)


@given(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
        st.text(),
        st.binary(),
    ),
    st.floats(allow_nan=False) | st.none(),
)
def test_summaries_travel_as_json(value, max_diff):
    found = Summary(value, "t", "mean", max_diff, {"units": "m", "background": [1, 2, 3]})
    text = json.dumps(found.to_json(), allow_nan=False)
    assert Summary.from_json(json.loads(text)) == found


def test_nan_travels_as_json():
    text = json.dumps(summary(float("nan")).to_json(), allow_nan=False)
    assert np.isnan(Summary.from_json(json.loads(text)).value)
