"""Values that go from one process to another come out as the docstring of `wire.write` says."""

import datetime as dt
import enum
import io

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from ctxlib import wire
from ctxlib.cell import Cell
from ctxlib.errors import ForeignError, Skip, describe
from ctxlib.results import Results


@pytest.fixture
def sent(tmp_path):
    """Give a function that writes a value to a file and reads it again."""

    def through(value):
        path = tmp_path / "value"
        with path.open("wb") as file:
            wire.write(value, file)
        with path.open("rb") as file:
            return wire.read(file)

    return through


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner)
    | st.dictionaries(st.text() | st.integers() | st.tuples(st.booleans()), inner),
    max_leaves=10,
)  # fmt: skip


@given(PLAIN)
def test_plain_values_come_out_as_they_were(value):
    with open_memory() as file:
        wire.write(value, file)
        back = wire.read(file)
    assert repr(back) == repr(value)  # NaN is not equal to itself


def open_memory():
    return io.BytesIO()


@pytest.mark.parametrize(
    "value",
    [
        np.float32(1.5),
        np.uint64(2**64 - 1),
        np.datetime64("2026-11-21T01:02:03.000000004", "ns"),
        np.complex64(1 + 2j),
        np.bool_(True),
    ],
    ids=repr,
)
def test_numpy_scalars_keep_their_type(sent, value):
    back = sent(value)
    assert (back, back.dtype) == (value, value.dtype)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4)[:, ::2],
        np.array(5),
        np.zeros((0, 3), dtype=np.int8),
        np.array(["a", "ß"]),
        np.array([b"x"]),
        np.array([1 + 2j], dtype=">c16"),
        np.array(["2026-01-01"], dtype="datetime64[D]"),
        np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]),
    ],
    ids=lambda array: str(array.dtype),
)
def test_arrays_come_out_as_they_were(sent, array):
    back = sent(("beside", [array]))[1][0]
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert (back == array).all()


def test_what_only_files_can_hold_comes_out_as_from_one(sent):
    pd = pytest.importorskip("pandas", reason="pandas is not installed: pip install pandas")
    labelled = xr.DataArray(
        [1.0, np.nan], dims="x", coords={"x": ["a", "b"]}, name="n", attrs={"units": "mm"}
    )
    back = sent({"array": labelled, "set": labelled.to_dataset(), "frame": pd.Series([1, 2])})
    xr.testing.assert_identical(back["array"], labelled)
    xr.testing.assert_identical(back["set"], labelled.to_dataset())
    xr.testing.assert_identical(
        back["frame"], xr.DataArray([1, 2], dims="index", coords={"index": [0, 1]})
    )


def test_figures_come_out_as_pixels_or_figures(sent):
    figure = pytest.importorskip("matplotlib.figure", reason="pip install matplotlib").Figure()
    plotly = pytest.importorskip("plotly.graph_objects", reason="pip install plotly")
    assert sent(figure).shape[2] == 4
    assert sent(plotly.Figure(plotly.Scatter(y=[1, 2]))).data[0].y == (1, 2)


def test_of_other_kinds_of_numbers_and_texts_the_value_is_kept(sent):
    class Colour(enum.IntEnum):
        RED = 3

    class Name(str):
        __slots__ = ()

    assert (sent(Colour.RED), sent(Name("x"))) == (3, "x")
    assert sent(dt.date(2026, 11, 21)) == np.datetime64("2026-11-21")


class Odd(Exception):
    def __str__(self):
        raise ValueError("no text")


def test_results_come_out_with_their_errors_named(sent):
    cell = Cell(np.arange(3), summary="mean", bold=True, background="#ff0000", units="mm")
    errors = {"skipped": Skip("no scan"), "wrong": KeyError("x"), "odd": Odd()}
    back = sent(Results({"a": cell}, errors, frozenset({"t"}), {"t": object()}))
    assert vars(back.cells["a"]) | {"data": None} == vars(cell) | {"data": None}
    assert back.values["a"].tolist() == [0, 1, 2]
    assert (type(back.errors["skipped"]), str(back.errors["skipped"])) == (Skip, "no scan")
    assert isinstance(back.errors["wrong"], ForeignError)
    assert describe(back.errors["wrong"]) == "KeyError: 'x'"
    assert describe(back.errors["odd"]) == "Odd: (its text cannot be given: ValueError)"
    assert (back.transient, back.transient_values) == ({"t"}, {})


UNSENDABLE = {"object": object(), "set": {1, 2}, "function": [print], "array": np.array([object()])}


@pytest.mark.parametrize("value", UNSENDABLE.values(), ids=UNSENDABLE)
def test_what_cannot_be_sent_is_named(sent, value):
    with pytest.raises(TypeError, match="cannot be given to another process: return numbers"):
        sent(value)


def test_a_file_that_is_not_whole_is_no_value():
    with pytest.raises(ValueError, match="not whole"):
        wire.read(io.BytesIO(b"abc"))
