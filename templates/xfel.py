"""What is computed for every run of an instrument at European XFEL.

Put your own devices below; what is not in a run is skipped, and its cell says so. Check this file
with `runtable read-context`, and fill the rows of earlier runs with `runtable reprocess all`.
"""

import numpy as np
from damnit_ctx import Cell, Group, Skip, Variable

CAMERA = "SPB_IRU_CAM/CAM/SIDEMIC:daqOutput"
SCANNED = ("SPB_XTD9_XGM/DOOCS/MAIN", "beamPosition.ixPos")
DETECTOR_MODULE = "SPB_DET_AGIPD1M-1/DET/0CH0:xtdf"


def key_data(run, source, key):
    """The data of a source, or a skipped variable where the run does not have it."""
    if source not in run.all_sources:
        raise Skip(f"{source} is not in this run")
    return run[source, key]


@Variable(title="Trains", tags="run")
def trains(run):
    """Number of trains. `run` is an extra_data DataCollection."""
    return len(run.train_ids)


@Variable(title="Duration", units="s", tags="run")
def duration(run, trains: "var#trains"):
    return trains / 10


# A group is written once and used for every device of a kind: columns "XGM hutch/Pulses", …
@Group(title="XGM", tags="beam")
class Xgm:
    device: str = ""

    @Variable(title="Pulse energy", units="uJ", summary="nanmean")
    def energy(self, run):
        """Energy of each pulse, by train; the table shows the mean."""
        data = key_data(run, self.device + ":output", "data.intensityTD")
        energy = data.xarray(extra_dims=["pulse"])
        return energy.where(energy != 1)  # 1 is written where there was no pulse

    @Variable(title="Pulses")
    def pulses(self, run, energy: "self#energy"):
        """The most pulses that a train had."""
        return int(energy.count("pulse").max())

    @Variable(title="Energy by train", units="uJ")
    def by_train(self, run, energy: "self#energy"):
        return energy.mean("pulse")


xgm_tunnel = Xgm(title="XGM tunnel", device="SA1_XTD2_XGM/DOOCS/MAIN")
xgm_hutch = Xgm(title="XGM hutch", device="SPB_XTD9_XGM/DOOCS/MAIN")


@Variable(title="Transmission", units="%", tags="beam")
def transmission(run, before: "var#xgm_tunnel.energy", after: "var#xgm_hutch.energy"):
    share = 100 * float(after.mean() / before.mean())
    return Cell(share, bold=share < 10)


@Variable(title="Scan steps", tags="scan")
def scan_steps(run):
    """How many positions the scanned motor had."""
    steps = np.unique(key_data(run, *SCANNED).ndarray()).size
    if steps == 1:
        raise Skip("not a scan")
    return steps


@Variable(title="Camera", tags="camera")
def camera(run):
    """The mean image, one train in memory at a time."""
    images = key_data(run, CAMERA, "data.image.pixels")
    total, count = 0.0, 0
    for _, image in images.trains():
        total, count = total + image.astype(float), count + 1
    return total / count if count else None


# This one waits for the run's calibrated data.
@Variable(title="Detector", data="proc", tags="detector")
def detector(run):
    """The mean image of one module over the frames of the first train."""
    frames = key_data(run, DETECTOR_MODULE, "image.data").drop_empty_trains()
    return np.nanmean(frames[:1].ndarray(), axis=0)
