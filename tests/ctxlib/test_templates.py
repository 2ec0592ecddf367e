"""The starter context files load without a problem and make something of suitable data."""

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from notes import evaluated

from ctxlib import Cell, sources
from ctxlib.errors import Skip
from ctxlib.graph import Graph

TEMPLATES = Path(__file__).parents[2] / "templates"


@pytest.fixture
def compute(context):
    def compute(template, proposal_path, source, data="all"):
        graph = Graph(context((TEMPLATES / template).read_text(), head=""))
        assert graph.problems == []
        request = {"proposal": 1234, "proposal_path": str(proposal_path), "run": 1, "data": data}
        opened = sources.open_run({**request, "source": source, "mock": source == "mock"})
        meta = {"run_number": 1, "proposal": 1234, "proposal_path": proposal_path}
        results = evaluated(graph, opened.run, meta)
        assert results.values.keys() | results.errors.keys() == set(graph.order)
        return results

    return compute


def write(proposal, **datasets):
    """Make run 1 of one HDF5 file with these datasets, named with __ for /."""
    folder = proposal / "raw" / "r0001"
    folder.mkdir(parents=True)
    with h5py.File(folder / "scan.nxs", "w") as file:
        for name, value in datasets.items():
            file[name.replace("__", "/")] = value
    return proposal


def skipped(results):
    assert all(isinstance(error, Skip) for error in results.errors.values()), results.errors
    return set(results.errors)


@pytest.mark.parametrize("template", sorted(path.name for path in TEMPLATES.glob("*.py")))
def test_a_template_loads_without_a_problem(context, template):
    loaded = context((TEMPLATES / template).read_text(), head="")
    graph = Graph(loaded)
    assert graph.problems == loaded.problems == []
    assert graph.order


def test_minimal(compute, tmp_path, example_proposal):
    assert compute("context.py", tmp_path, "mock").values == {"trains": 10, "duration": 1}
    assert compute("context.py", example_proposal, "euxfel").values["trains"] == 64


def test_xfel(compute, example_proposal, tmp_path):
    copy = shutil.copytree(example_proposal, tmp_path / "p001234")
    fill_in(copy / "raw" / "r0001")
    results = compute("xfel.py", copy, "euxfel")
    assert skipped(results) == set()
    values = results.values
    assert (values["trains"], values["duration"]) == (64, 6.4)
    assert values["xgm_tunnel.pulses"] == values["xgm_hutch.pulses"] == 30
    assert values["xgm_hutch.by_train"].values == pytest.approx(500)
    assert values["transmission"].data == pytest.approx(50)
    assert values["scan_steps"] == 4
    assert values["camera"] == pytest.approx(np.full((64, 48), 7.0))
    assert values["detector"].shape == (512, 128)


def fill_in(folder):
    """Give the example's devices values that can be recognised."""
    for path in folder.glob("*-DA*.h5"):
        with h5py.File(path, "r+") as file:
            for device, energy in [("SA1_XTD2_XGM", 1000), ("SPB_XTD9_XGM", 500)]:
                pulses = file[f"INSTRUMENT/{device}/DOOCS/MAIN:output/data/intensityTD"]
                pulses[:] = np.where(np.arange(pulses.shape[1]) < 30, energy, 1)
            position = file["CONTROL/SPB_XTD9_XGM/DOOCS/MAIN/beamPosition/ixPos/value"]
            position[:] = np.arange(len(position)) % 4
            file["INSTRUMENT/SPB_IRU_CAM/CAM/SIDEMIC:daqOutput/data/image/pixels"][:] = 7


def test_xfel_skips_what_a_run_does_not_have(compute, tmp_path):
    from extra_data.tests.make_examples import make_sa3_da_file

    folder = tmp_path / "raw" / "r0001"
    folder.mkdir(parents=True)
    make_sa3_da_file(os.fspath(folder / "RAW-R0001-DA01-S00000.h5"), ntrains=5)
    results = compute("xfel.py", tmp_path, "euxfel")
    assert results.values.keys() == {"trains", "duration"}
    assert "SPB_IRU_CAM/CAM/SIDEMIC:daqOutput is not in this run" in str(results.errors["camera"])
    assert "camera" in skipped(results)


def test_hdf5(compute, tmp_path):
    position = np.linspace(-1, 1, 21)
    counts = np.round(1000 * np.exp(-((position - 0.3) ** 2) * 50)).astype(int)
    scan = {"entry__data__position": position, "entry__data__counts": counts}
    monitor = np.full(21, 100.0)
    write(tmp_path, **scan, entry__monitor__data=monitor, entry__title="Rocking curve")
    results = compute("hdf5.py", tmp_path, "hdf5")
    assert skipped(results) == set()
    values = results.values
    assert values["title"] == "Rocking curve"
    assert values["peak"] == pytest.approx(0.3)
    assert values["counts"].sum() == counts.sum()
    assert values["normalised"].values == pytest.approx(counts / 100)
    assert "entry/data/counts" in values["contents"]
    assert values["size"] > 0


def test_hdf5_skips_what_a_run_does_not_have(compute, tmp_path):
    results = compute("hdf5.py", write(tmp_path, other=1), "hdf5")
    assert results.values["contents"] == ["other"]
    assert skipped(results) == {"title", "counts", "peak", "normalised"}


def images(count):
    """Frames of a spot at (40, 150) on a level of 100, the second one with a saturated pixel."""
    y, x = np.indices((128, 200))
    spot = 100 + 5000 * np.exp(-((y - 40) ** 2 + (x - 150) ** 2) / 50)
    stack = np.repeat(spot[None].astype(np.uint16), count, axis=0)
    stack[1:2, 40, 150] = 65535
    return stack


def test_imaging(compute, tmp_path):
    stack = images(70)
    results = compute("imaging.py", write(tmp_path, entry__data__data=stack), "hdf5")
    assert skipped(results) == {"upper_left.centre"}
    values = results.values
    assert values["frames"] == 70
    assert values["mean_image"] == pytest.approx(stack.mean(axis=0))
    assert values["brightness"] == pytest.approx(stack.mean(axis=(1, 2)))
    assert values["saturated"].data == 1
    assert values["saturated"].background
    assert isinstance(values["spot.centre"], Cell)
    assert values["spot.centre"].data == pytest.approx([40, 150], abs=0.5)
    assert values["spot.intensity"] > 1e5
    assert values["upper_left.intensity"] == 0


@pytest.mark.parametrize("datasets", [{"entry__data__data": images(0)}, {"other": 1}])
def test_imaging_without_images(compute, tmp_path, datasets):
    results = compute("imaging.py", write(tmp_path, **datasets), "hdf5")
    assert {"mean_image", "spot.centre", "spot.intensity"} <= skipped(results)
