"""What we write, xarray and h5netcdf read, and the other way round."""

import itertools
import tempfile
import warnings
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ctxlib import attributes, netcdf, scales
from ctxlib.errors import UnsavableError

DTYPES = ["?", "i1", "u1", "<i2", ">i4", "<i8", "<u8", "<f2", "<f4", ">f8", "<f8", "<c8", "<c16"]
INDEXES = ["i1", "<i8", "<u8", "<f4", "<f8", "text", "time", "duration"]  # of what pandas indexes
NAMES = st.text("abcxyz_µé 9", min_size=1, max_size=5).filter(lambda name: name.strip() == name)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
ATTRIBUTES = st.dictionaries(
    NAMES,
    st.one_of(
        TEXTS,
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
        st.lists(st.integers(-100, 100), min_size=2, max_size=4),
        st.lists(TEXTS, min_size=2, max_size=4),
    ),
    max_size=3,
)


@st.composite
def arrays(draw, shape, kinds=(*DTYPES, "text", "time", "duration")):
    kind = draw(st.sampled_from(kinds))
    if kind == "text":
        return draw(hnp.arrays("O", shape, elements=TEXTS)).astype(str)
    if kind in ("time", "duration"):
        dtype = "M8[ns]" if kind == "time" else "m8[ns]"
        span = st.integers(-(2**61), 2**61) | st.just(-(2**63))
        return draw(hnp.arrays("i8", shape, elements=span)).astype(dtype)
    return draw(hnp.arrays(kind, shape))


@st.composite
def datasets(draw):
    sizes = draw(st.dictionaries(NAMES, st.integers(0, 4), max_size=3))
    dims = list(sizes)
    free = st.sampled_from(["v1", "v2", "w/w", "a.b"])
    coordinates = {
        dim: (dim, draw(arrays((sizes[dim],), INDEXES))) for dim in dims if draw(st.booleans())
    }
    others = draw(st.lists(free, max_size=4, unique=True))
    variables, extra = {}, {}
    for name in others:
        along = draw(st.lists(st.sampled_from(dims), unique=True)) if dims else []
        values = draw(arrays(tuple(sizes[dim] for dim in along)))
        target = extra if draw(st.booleans()) and "/" not in name else variables
        target[name] = (along, values, draw(ATTRIBUTES))
    return xr.Dataset(variables, {**coordinates, **extra}, draw(ATTRIBUTES))


def written(path, value, group="v"):
    with h5py.File(path, "w") as file:
        netcdf.write(file.create_group(group), value, itertools.count())


def read(path, group="v"):
    with h5py.File(path, "r") as file:
        holder = file[group]
        return netcdf.read_dataset(holder)


def read_array(path, group="v"):
    with h5py.File(path, "r") as file:
        return netcdf.read_dataarray(file[group])


def by_h5netcdf(load, path, group="v"):
    with warnings.catch_warnings():
        # Lengths of time are asked for by their type already; h5netcdf says nothing of ours.
        warnings.simplefilter("ignore", FutureWarning)
        return load(path, group=group, engine="h5netcdf")


def without_slashes(dataset):
    return dataset.rename({name: name.replace("/", "_") for name in dataset if "/" in name})


several = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@several
@given(datasets())
def test_both_read_what_we_write(dataset):
    expected = without_slashes(dataset)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.h5"
        written(path, dataset)
        xr.testing.assert_identical(read(path), expected)
        xr.testing.assert_identical(by_h5netcdf(xr.load_dataset, path), expected)


@several
@given(datasets())
def test_we_read_what_h5netcdf_writes(dataset):
    expected = without_slashes(dataset)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.h5"
        expected.to_netcdf(path, engine="h5netcdf", group="v")
        xr.testing.assert_identical(read(path), by_h5netcdf(xr.load_dataset, path))


@several
@given(st.lists(datasets(), min_size=1, max_size=3))
def test_both_read_what_was_moved_to_another_file(members):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "moved.h5"
        with h5py.File(path, "w") as target:
            target.create_group("other")
            ids = itertools.count()
            for number, dataset in enumerate(members):
                source = Path(folder) / f"{number}.h5"
                written(source, dataset, f"v{number}")
                with h5py.File(source, "r+") as file:
                    file[f"v{number}"].attrs["_damnit_objtype"] = "dataset"
                    scales.copy(file, target, f"v{number}", ids)
        for number, dataset in enumerate(members):
            expected = without_slashes(dataset)
            xr.testing.assert_identical(read(path, f"v{number}"), expected)
            found = by_h5netcdf(xr.load_dataset, path, f"v{number}")
            found.attrs.pop("_damnit_objtype")
            xr.testing.assert_identical(found, expected)
        assert_unique_dimension_ids(path)


def assert_unique_dimension_ids(path):
    seen = []

    def visit(name, item):
        if isinstance(item, h5py.Dataset) and h5py.h5ds.is_scale(item.id):
            seen.append(int(item.attrs["_Netcdf4Dimid"]))

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize(
    "array",
    [
        xr.DataArray(np.arange(5.0), dims="t", name="energy", attrs={"units": "mJ"}),
        xr.DataArray(np.arange(5.0), dims="t"),
        xr.DataArray(np.arange(5.0), dims="t", name="t"),
        xr.DataArray(np.arange(5.0), dims="t", coords={"t": np.arange(5)}, name="t"),
        xr.DataArray(np.arange(5), dims="t", coords={"sub": 7, "s": "text"}, name="sub"),
        xr.DataArray(5.0),
        xr.DataArray(np.zeros((0, 3)), dims=("a", "b"), name="nothing"),
        xr.DataArray(["a", "bcd"], dims="t", coords={"t": ["x", "µ"]}),
        xr.DataArray(np.arange(3.0), dims="t", attrs={"units": "seconds"}),
        xr.DataArray(pd.date_range("2026-01-01", periods=3, freq="s"), dims="t", name="when"),
        xr.DataArray(np.array([1, 2], "m8[s]"), dims="t", name="t2"),
    ],
    ids=lambda array: f"{array.name}-{array.dtype}-{array.ndim}",
)
def test_a_dataarray_comes_back_identical(tmp_path, array):
    path = tmp_path / "f.h5"
    written(path, array)
    xr.testing.assert_identical(read_array(path), array)
    if array.attrs.get("units") != "seconds":  # which xarray itself takes for a length of time
        xr.testing.assert_identical(by_h5netcdf(xr.load_dataarray, path), array)


def test_a_multi_index_comes_back(tmp_path):
    index = pd.MultiIndex.from_product([[1, 2], ["a", "b"]], names=["train", "pulse"])
    coordinates = xr.Coordinates.from_pandas_multiindex(index, "train_pulse")
    array = xr.DataArray(np.arange(4.0), dims="train_pulse", coords=coordinates, name="x")
    written(tmp_path / "f.h5", array)
    xr.testing.assert_identical(read_array(tmp_path / "f.h5"), array)
    plain = by_h5netcdf(xr.load_dataarray, tmp_path / "f.h5")
    assert plain.train.values.tolist() == [1, 1, 2, 2]


def test_attributes_that_netcdf_cannot_hold_come_back(tmp_path):
    attrs = {"flag": True, "none": None, "nested": {"a": [1, {"b": "c"}]}, "_FillValue": 7.0}
    attrs |= {"one": [1], "coordinates": "mine", "empty": [], "/slash": 1, "dtype": "odd"}
    array = xr.DataArray(np.arange(3.0), dims="t", name="x", attrs=attrs)
    written(tmp_path / "f.h5", array)
    assert read_array(tmp_path / "f.h5").attrs == attrs
    assert by_h5netcdf(xr.load_dataarray, tmp_path / "f.h5").identical(array) is False
    np.testing.assert_array_equal(by_h5netcdf(xr.load_dataarray, tmp_path / "f.h5"), array)


def test_attributes_of_ours_are_read_as_earlier_versions_spelled_them(tmp_path):
    index = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["one", "two"])
    coords = xr.Coordinates.from_pandas_multiindex(index, "t")
    array = xr.DataArray(np.arange(4), coords, "t", "x", attrs={"flag": True})
    with h5py.File(tmp_path / "f.h5", "w") as file:
        netcdf.write(file.create_group("v"), array, itertools.count())
        del file["v"].attrs["_damnit_runtable_member_attrs"]
        attributes.write_beside(file["v/x"], {"flag": True})  # which stood at the arrays then
        spelled = 0
        for item in (file["v"], *file["v"].values()):
            for name in [name for name in item.attrs if "runtable" in name]:
                item.attrs[name.removeprefix("_damnit")] = item.attrs.pop(name)
                spelled += 1
    assert spelled == 2
    xr.testing.assert_identical(read_array(tmp_path / "f.h5"), array)


def test_the_encoding_of_a_source_file_does_not_cost_precision(tmp_path):
    array = xr.DataArray([0.25, 0.5], dims="t", name="x")
    array.encoding = {"dtype": "i2", "scale_factor": 1.0, "_FillValue": -1}
    written(tmp_path / "f.h5", array)
    xr.testing.assert_identical(read_array(tmp_path / "f.h5"), array)


def test_names_that_no_file_holds_are_replaced_and_stay_apart(tmp_path):
    dataset = xr.Dataset({"a/b": ("x", [1]), "a_b": ("x", [2]), "": 3, ".": 4, 5: 6})
    written(tmp_path / "f.h5", dataset)
    found = {name: values.values.tolist() for name, values in read(tmp_path / "f.h5").items()}
    assert found == {"a_b": [1], "a_b_": [2], "_": 3, "__": 4, "5": 6}


def test_texts_that_hdf5_refuses_are_escaped(tmp_path):
    array = xr.DataArray(["a\0b", "\udc80"], dims="t", attrs={"note": "c\0d"})
    written(tmp_path / "f.h5", array)
    found = read_array(tmp_path / "f.h5")
    assert found.values.tolist() == ["a\\x00b", "\\udc80"]
    assert found.attrs == {"note": "c\\x00d"}


def test_mixed_objects_are_refused(tmp_path):
    array = xr.DataArray(np.array([1, "a"], dtype=object), dims="t", name="odd")
    with pytest.raises(UnsavableError, match="'odd' holds objects of type int"):
        written(tmp_path / "f.h5", array)


def test_arrays_are_compressed_and_small_ones_are_not(tmp_path):
    written(tmp_path / "f.h5", xr.Dataset({"large": ("t", np.arange(1000)), "small": ("u", [1])}))
    with h5py.File(tmp_path / "f.h5") as file:
        large = file["v/large"]
        assert (large.compression, large.compression_opts, large.shuffle) == ("gzip", 1, True)
        assert file["v/small"].compression is None


def test_a_group_of_several_arrays_is_no_dataarray(tmp_path):
    written(tmp_path / "f.h5", xr.Dataset({"a": 1, "b": 2}))
    with pytest.raises(ValueError, match="a, b"):
        read_array(tmp_path / "f.h5")
