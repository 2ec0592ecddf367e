"""A context file in a Python of its own, which has only what the documentation asks for."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from beamtime import Beamtime
from helpers import wait_until

from ctxlib.runfile import RunFile

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-context" / "bin" / "python"
OURS = ("click", "h5netcdf", "psutil", "pydantic", "threadpoolctl", "zmq", "runtable", "damnit")

CONTEXT = f"""
import os
import sys
from importlib.util import find_spec

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from damnit_ctx import Cell, Group, Skip, Variable


@Variable(title="Python")
def python(run):
    return sys.executable + " " + ".".join(map(str, sys.version_info[:2]))

@Variable(title="Not needed")
def not_needed(run):
    return " ".join(name for name in {OURS} if find_spec(name))

@Variable(title="Trains")
def trains(run):
    return len(run.train_ids)

@Variable(title="Energy", summary="mean", units="uJ")
def energy(run):
    return run["SPB_XTD9_XGM/DOOCS/MAIN:output", "data.intensityTD"].xarray()

@Variable(title="Both")
def both(run, energy: "var#energy"):
    times = np.arange(3).astype("M8[s]")
    return xr.Dataset({{"mean": energy.mean("dim_0"), "times": ("n", times)}})

@Variable(title="Image")
def image(run, trains: "var#trains"):
    return Cell(np.full((30, 40), float(trains)), bold=True)

@Variable(title="Figure")
def figure(run):
    return plt.plot([1, 2, 3])[0].axes

@Variable(title="Calibrated", data="proc")
def calibrated(run, number: "meta#run_number"):
    return number + run["SPB_DET_AGIPD1M-1/DET/0CH0:xtdf", "image.data"].shape[0]

@Variable(title="Gone")
def gone(run):
    os._exit(7)

@Variable(title="After gone")
def after_gone(run, gone: "var#gone"=5):
    return gone

@Group(title="G")
class Things:
    factor: int = 1

    @Variable(title="Times")
    def times(self, run, trains: "var#trains"):
        if self.factor == 0:
            raise Skip("nothing")
        return self.factor * trains

things = Things(factor=3)
"""


@pytest.fixture
def beamtime(tmp_path: Path, example_proposal: Path) -> Iterator[Beamtime]:
    beamtime = Beamtime(tmp_path, example_proposal)
    yield beamtime
    beamtime.close()


@pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-context: make .venv-context/installed")
@pytest.mark.parametrize("start", ["fork", "fresh"])
def test_an_environment_with_only_what_is_asked_for(beamtime: Beamtime, start: str) -> None:
    beamtime.init(CONTEXT, context_python=PYTHON, process_start=start)
    for kind in ("raw", "proc"):
        beamtime.arrive(1, kind)
    beamtime.run("read-context")
    beamtime.run("reprocess", "1", check=False)
    version = subprocess.run([PYTHON, "-V"], capture_output=True, text=True, check=True).stdout
    assert beamtime.value(1, "python") == f"{PYTHON} {version.split()[1].rpartition('.')[0]}"
    assert beamtime.value(1, "not_needed") == ""
    assert beamtime.value(1, "things.times") == 3 * 64
    assert beamtime.value(1, "calibrated") > 1
    assert beamtime.value(1, "after_gone") == 5
    assert "exit" in beamtime.attributes(1, "gone")
    assert beamtime.value(1, "figure")[:4] == beamtime.value(1, "image")[:4] == b"\x89PNG"
    with RunFile(beamtime.run_file(1)) as file:
        assert file.read("energy").dims == ("trainId", "dim_0")
        assert file.read("both")["times"].values.tolist() == [0, 10**9, 2 * 10**9]
        assert np.all(file.read("image") == 64.0)
    assert "context_python" not in beamtime.log()


def test_a_python_that_lacks_something_is_refused_when_it_is_set(beamtime: Beamtime) -> None:
    beamtime.init("")
    bare = beamtime.path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    refused = beamtime.run("db-config", "context_python", bare / "bin/python", check=False)
    assert refused.returncode == 1
    assert (
        "it has no extra_data; it has no h5py; it has no numpy; it has no xarray" in refused.stderr
    )
    gone = beamtime.run("db-config", "context_python", beamtime.path / "python", check=False)
    assert "there is no file" in gone.stderr
    assert beamtime.run("db-config", "context_python").stdout.strip() == ""


HDF5_RUN = """
import sys, h5py
with h5py.File(sys.argv[1], "w") as file:
    file["entry/data/position"] = [0.0, 1.0, 2.0]
    file["entry/data/counts"] = [1, 5, 2]
    file["entry/monitor/data"] = [1.0, 1.0, 2.0]
    file["entry/title"] = "A scan"
    file["entry/start_time"] = "2026-07-01T12:00:00Z"
"""


def test_another_facility_with_plain_hdf5_files(beamtime: Beamtime) -> None:
    """From `init` on to a row that fills itself."""
    beamtime.run("init", beamtime.folder, "--proposal", 7, "--template", "hdf5")
    unknown = beamtime.run("db-config", "source", "nexus", check=False)
    assert "there are euxfel, hdf5, mock" in unknown.stderr
    wrong = beamtime.run("db-config", "run_pattern", "scans/../{run}", check=False)
    assert "must be the path of a run's folder below proposal_path" in wrong.stderr
    place = beamtime.path.parent / "visit"
    for run in (8, 9):
        (place / f"scans/scan_{run}").mkdir(parents=True)
    write(place / "scans/scan_8/a.nxs")
    beamtime.set(proposal_path=place, run_pattern="scans/scan_{run}", settle_seconds=0.2)
    beamtime.set(memory_reserve="0")
    beamtime.proposal = 7
    beamtime.run("reprocess", "8")
    assert beamtime.value(8, "peak") == 1.0
    beamtime.listen()
    write(place / "scans/scan_9/a.nxs")
    assert wait_until(lambda: beamtime.value(9, "title"), 60) == "A scan"
    began = beamtime.rows("SELECT start_time FROM run_info WHERE run = 9")
    assert began == [(1782907200.0,)]
    wait_until(lambda: beamtime.value(9, "normalised"))
    assert [run for run, *_ in beamtime.rows("SELECT DISTINCT run FROM run_variables")] == [8, 9]


def write(path: Path) -> None:
    """Make a run's file, by a process of its own as a facility does."""
    subprocess.run([sys.executable, "-c", HDF5_RUN, str(path)], check=True)
