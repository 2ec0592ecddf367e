"""Example runs in EuXFEL's file format, and their arrival the way a migration brings them.

The files are those that the `extra_data` package makes for its own tests; this fills in values, so
that every run has something to show.
"""

import time
from pathlib import Path

import h5py
import numpy as np
from extra_data.tests import make_examples

PROPOSAL = 1234
SAMPLES = ["lysozyme", "lysozyme", "lysozyme", "water", "none"]
SCAN_RUN = 4
CAMERA_SHAPE = (96, 128)
FRAMES_WITH_DATA = 16


def make_raw(folder: Path, run: int) -> None:
    """Make the raw files of `run` in `folder`, which is made: 16 modules, two XGMs and a camera."""
    folder.mkdir(parents=True)
    make_examples.make_spb_run(str(folder), sensor_size=CAMERA_SHAPE, format_version="1.0")
    random = np.random.default_rng(run)
    for path in sorted(folder.glob("*-DA*.h5")):
        with h5py.File(path, "r+") as file:
            _fill_xgms(file, run, random)
            _fill_camera(file, run, random)
    _say_which_run(folder, run)


def make_proc(folder: Path, run: int) -> None:
    """Make the calibrated files of `run` in `folder`, which is made: 16 detector modules."""
    folder.mkdir(parents=True)
    make_examples.make_spb_run(str(folder), raw=False, format_version="1.0")
    random = np.random.default_rng(100 + run)
    with h5py.File(folder / "CORR-R0238-AGIPD00-S00000.h5", "r+") as file:
        data = file["INSTRUMENT/SPB_DET_AGIPD1M-1/DET/0CH0:xtdf/image/data"]
        y, x = np.indices(data.shape[1:])
        rings = 3 + 2 * np.cos(np.hypot(y, x - 64 + 10 * (run % 10)) / (8 + run % 10))
        for frame in range(FRAMES_WITH_DATA):
            data[frame] = random.poisson(rings)
    _say_which_run(folder, run)


def arrive(source: Path, target: Path, seconds: float) -> None:
    """Copy a run over `seconds` as a migration does: its folder comes, then files that grow."""
    target.mkdir(parents=True)
    files = sorted(source.iterdir())
    for path in files:
        content = path.read_bytes()
        half = len(content) // 2
        with (target / path.name).open("wb") as file:
            for part in (content[:half], content[half:]):
                file.write(part)
                file.flush()
                time.sleep(seconds / len(files) / 2)


def _fill_xgms(file: h5py.File, run: int, random: np.random.Generator) -> None:
    step = run % 10
    pulses = 20 + 10 * step
    for device, energy in [("SA1_XTD2_XGM", 1200.0), ("SPB_XTD9_XGM", 1200.0 - 60 * step)]:
        data = file[f"INSTRUMENT/{device}/DOOCS/MAIN:output/data/intensityTD"]
        values = np.ones(data.shape, data.dtype)
        values[:, :pulses] = random.normal(energy, energy / 12, (len(values), pulses))
        data[:] = values
    position = file["CONTROL/SPB_XTD9_XGM/DOOCS/MAIN/beamPosition/ixPos/value"]
    if run == SCAN_RUN:
        position[:] = np.repeat(np.linspace(-1, 1, 4), len(position) // 4)


def _fill_camera(file: h5py.File, run: int, random: np.random.Generator) -> None:
    pixels = file["INSTRUMENT/SPB_IRU_CAM/CAM/SIDEMIC:daqOutput/data/image/pixels"]
    y, x = np.indices(CAMERA_SHAPE)
    spot = 900 * np.exp(-((y - 48) ** 2 + (x - 40 - 7 * (run % 10)) ** 2) / 180)
    pixels[:] = random.poisson(spot + 20, pixels.shape)


def _say_which_run(folder: Path, run: int) -> None:
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path, "r+") as file:
            file["METADATA/proposalNumber"][:] = PROPOSAL
            file["METADATA/runNumber"][:] = run
            file["METADATA/sample"][:] = SAMPLES[(run - 1) % len(SAMPLES)].encode()
        path.rename(path.with_name(path.name.replace("R0238", f"R{run:04d}")))
