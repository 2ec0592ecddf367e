"""The context files that are measured; both projects take each of them."""

ONE_SCALAR = """
from damnit_ctx import Variable

@Variable(title="Trains")
def trains(run):
    return len(run.train_ids)
"""

ONE_MOCK_SCALAR = """
from damnit_ctx import Variable

@Variable(title="Answer")
def answer(run):
    return 42
"""

FIFTEEN_COLUMNS = """
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from damnit_ctx import Group, Variable

CAMERA = ("SPB_IRU_CAM/CAM/SIDEMIC:daqOutput", "data.image.pixels")
DETECTOR = ("SPB_DET_AGIPD1M-1/DET/0CH0:xtdf", "image.data")

@Variable(title="Trains")
def trains(run):
    return len(run.train_ids)

@Variable(title="Half", summary="mean")
def half(run, n: "var#trains"):
    return n / 2

@Variable(title="First train")
def first_train(run):
    return int(run.train_ids[0])

@Variable(title="Label")
def label(run, number: "meta#run_number"):
    return f"run {number}"

@Group
class Xgm:
    device: str = ""

    @Variable(title="Energy", summary="mean")
    def energy(self, run):
        return run[self.device + ":output", "data.intensityTD"].xarray()

    @Variable(title="Mean")
    def mean(self, run, energy: "self#energy"):
        return float(energy.mean())

tunnel = Xgm(title="Tunnel", device="SA1_XTD2_XGM/DOOCS/MAIN")
hutch = Xgm(title="Hutch", device="SPB_XTD9_XGM/DOOCS/MAIN")

@Variable(title="Position", summary="max")
def position(run):
    return run["SPB_XTD9_XGM/DOOCS/MAIN", "beamPosition.ixPos"].xarray()

@Variable(title="Trendline")
def trendline(run):
    return run["SPB_XTD9_XGM/DOOCS/MAIN", "beamPosition.iyPos"].ndarray()

@Variable(title="Noise")
def noise(run):
    return xr.DataArray(np.random.rand(100, 100), dims=["y", "x"])

@Variable(title="Image")
def image(run):
    return np.random.rand(256, 256)

@Variable(title="Figure")
def figure(run, image: "var#image"):
    figure, axes = plt.subplots()
    axes.plot(image.mean(axis=0))
    return figure

@Variable(title="Detector", data="proc")
def detector(run):
    return run[DETECTOR][0].ndarray().mean(axis=0)

@Variable(title="Photons", data="proc")
def photons(run, detector: "var#detector"):
    return float(detector.sum())
"""

HUNDRED_ARRAYS = """
import numpy as np
import xarray as xr
from damnit_ctx import Variable

def make(number):
    @Variable(title=f"Array {number}", summary="mean")
    def array(run):
        return xr.DataArray(np.arange(1000.0) + number, dims="x", coords={"x": np.arange(1000)})
    array.func.__name__ = f"array_{number}"
    return array

""" + "\n".join(f"array_{number} = make({number})" for number in range(100))


def many_scalars(number: int, pause: float = 0.0) -> str:
    """`number` variables v0, v1, ... that take `pause` seconds each."""
    head = "import time\nfrom damnit_ctx import Variable\n"
    wait = f"    time.sleep({pause})\n" if pause else ""
    return head + "\n".join(
        f"@Variable\ndef v{i}(run):\n{wait}    return len(run.train_ids) + {i}\n"
        for i in range(number)
    )
