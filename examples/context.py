"""The demo's variables: each function below fills one column of the run table.

Edit the copy in the database folder while the daemon runs: the next run is evaluated with what you
saved, and `runtable reprocess all` brings the earlier ones up to date.
"""

import matplotlib.pyplot as plt
import numpy as np
import plotly.graph_objects as go
import xarray as xr
from damnit_ctx import Cell, Group, Skip, Variable

CAMERA = "SPB_IRU_CAM/CAM/SIDEMIC:daqOutput"
DETECTOR = "SPB_DET_AGIPD1M-1/DET/0CH0:xtdf"


# Numbers and texts are shown as they are.
@Variable(title="Trains", tags="run")
def trains(run):
    """Number of trains in the run."""
    return len(run.train_ids)


@Variable(title="Sample", tags="run")
def sample(run):
    return run.run_metadata()["sample"]


@Variable(title="Label", tags="run")
def label(run, number: "meta#run_number", sample: "var#sample"):
    return f"r{number} {sample}"


# A group is defined once and used for every device of a kind.
@Group(title="XGM", tags="beam")
class Xgm:
    device: str = ""

    @Variable(title="Pulse energy", summary="nanmean", units="uJ")
    def energy(self, run):
        """Energy of each pulse, by train."""
        pulses = run[self.device + ":output", "data.intensityTD"].xarray(extra_dims=["pulse"])
        return pulses.where(pulses != 1)  # 1 is what the device writes where no pulse was

    @Variable(title="Pulses")
    def pulses(self, run, energy: "self#energy"):
        return int(energy.count("pulse").max())


xgm_tunnel = Xgm(title="XGM SA1", device="SA1_XTD2_XGM/DOOCS/MAIN")
xgm_hutch = Xgm(title="XGM SPB", device="SPB_XTD9_XGM/DOOCS/MAIN")


# One variable can use the results of others; it is evaluated after them.
@Variable(title="Transmission", units="%", tags="beam")
def transmission(run, before: "var#xgm_tunnel.energy", after: "var#xgm_hutch.energy"):
    return 100 * float(after.mean() / before.mean())


@Variable(title="Energy by train", tags="beam")
def energy_by_train(run, energy: "var#xgm_hutch.energy"):
    """An interactive figure."""
    mean = energy.mean("pulse")
    figure = go.Figure(go.Scatter(x=mean.trainId.values, y=mean.values, mode="lines+markers"))
    return figure.update_layout(xaxis_title="train", yaxis_title="energy [uJ]")


@Variable(title="Energy histogram", tags="beam")
def energy_histogram(run, before: "var#xgm_tunnel.energy", after: "var#xgm_hutch.energy"):
    """A Matplotlib figure."""
    figure, axes = plt.subplots(figsize=(4, 3), layout="constrained")
    for name, energy in [("SA1", before), ("SPB", after)]:
        values = energy.values
        axes.hist(values[np.isfinite(values)], bins=40, label=name)
    axes.set_xlabel("pulse energy [uJ]")
    axes.legend()
    return figure


# What a transient variable returns is for other variables alone and is not saved.
@Variable(transient=True)
def frames(run):
    return run[CAMERA, "data.image.pixels"].xarray(extra_dims=["y", "x"])


@Variable(title="Camera", tags="camera")
def camera(run, frames: "var#frames"):
    """Mean image of the camera."""
    return frames.mean("trainId").values


@Variable(title="Beam profile", tags="camera")
def profile(run, camera: "var#camera"):
    return xr.DataArray(camera.sum(axis=0), dims="x", coords={"x": np.arange(camera.shape[1])})


# A cell says how its value is shown.
@Variable(title="Beam spot", tags="camera")
def spot(run, camera: "var#camera"):
    y, x = np.unravel_index(camera.argmax(), camera.shape)
    centred = abs(x - camera.shape[1] / 2) < 10
    return Cell(
        [x, y],
        summary_value=f"x={x} y={y}",
        bold=not centred,
        background="#d8f5d0" if centred else "#ffd0d0",
    )


# Skip tells that there is nothing to compute, and why.
@Variable(title="Scan steps", tags="scan")
def scan_steps(run):
    position = run["SPB_XTD9_XGM/DOOCS/MAIN", "beamPosition.ixPos"].ndarray()
    steps = np.unique(position).size
    if steps < 2:
        raise Skip("the beam was not moved: no scan")
    return steps


# A dependency with a default value is not needed: the default stands in for it.
@Variable(title="Trains per step", tags="scan")
def trains_per_step(run, trains: "var#trains", steps: "var#scan_steps" = 1):
    return trains / steps


# An error costs this variable and those that need it; the others are evaluated all the same.
@Variable(title="Sample temperature", units="K")
def temperature(run):
    return run["SPB_EXP_SAMPLE/TSENS/1", "value"].ndarray().mean()


@Variable(title="Sample warm")
def warm(run, temperature: "var#temperature"):
    return bool(temperature > 280)


# Calibrated data comes later than raw data: these wait for it.
@Variable(title="Detector", data="proc", tags="detector")
def detector(run):
    """Mean image of the first module in the first train."""
    return run[DETECTOR, "image.data"][0].ndarray().mean(axis=0)


@Variable(title="Photons per frame", tags="detector")
def photons(run, detector: "var#detector"):
    """Waits for calibrated data too, because `detector` does."""
    return float(detector.sum())
