"""The context files that users find in the documentation of the language, as they stand there."""

import numpy as np
import pytest
import xarray as xr
from notes import evaluated

from ctxlib import Cell
from ctxlib.errors import Skip
from ctxlib.graph import Graph

COMPONENTS = """
import numpy as np
import xarray as xr

class XGM:
    def __init__(self, run, device_name=None):
        self.device_name = device_name
    def pulse_energy(self):
        return xr.DataArray(np.full((4, 2), 5.0), dims=("trainId", "pulseIndex"))

class XrayPulses:
    def __init__(self, run): ...
    def pulse_counts(self): return self
    def to_xarray(self): return xr.DataArray(np.arange(4), dims="trainId")

class Scantool:
    active = False
    def __init__(self, run): ...
"""


class Run:
    train_ids = (1, 2, 3, 4)

    @property
    def alias(self):
        return {"AGIPD1M": {"photon-count": self}}

    def xarray(self):
        return xr.DataArray(np.full(4, 12.2), dims="trainId")


@pytest.fixture
def computed(context, tmp_path):
    """Give a function that computes a documented file, and its graph."""
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "components.py").write_text(COMPONENTS)

    def compute(text, head=""):
        graph = Graph(context(text, head=head))
        assert not graph.problems
        meta = {"run_number": 42, "proposal": 1234, "proposal_path": "/p"}
        return graph, evaluated(graph, Run(), meta)

    return compute


def test_the_first_file(computed):
    graph, notes = computed('''
import numpy as np
from damnit_ctx import Variable

from extra.components import XGM, XrayPulses

@Variable(title="XGM intensity [uJ]", summary="mean")
def xgm_intensity(run):
    """
    Mean XGM intensity per-train.
    """
    return XGM(run).pulse_energy().mean("pulseIndex")

@Variable(title="Pulses", summary="mean")
def pulses(run):
    """
    Number of pulses in the run.
    """
    return XrayPulses(run).pulse_counts().to_xarray()
''')
    assert graph.nodes["xgm_intensity"].describe() == {
        "name": "xgm_intensity",
        "title": "XGM intensity [uJ]",
        "description": "Mean XGM intensity per-train.",
        "tags": [],
        "data": "raw",
        "backend": "",
        "transient": False,
        "units": None,
        "summary": "mean",
        "parameters": [],
        "version": None,
        "dependencies": [],
    }
    assert notes.values["xgm_intensity"].shape == (4,)
    assert not notes.errors


def test_tags_triggers_clusters_skips_and_cells(computed):
    graph, notes = computed("""
from damnit_ctx import Variable, Skip, Cell
from extra.components import Scantool

@Variable(title="AGIPD data", tags=["detector", "agipd", "raw"])
def agipd_data(run):
    ...

@Variable(title="Detector preview", data="proc")
def detector_preview(run):
    ...

@Variable(title="Foo", cluster=True)
def foo(run):
    # some heavy computation ...
    return 42

@Variable()
def binned_by_scan_step(run):
    scan = Scantool(run)
    if not scan.active:
        raise Skip("Run is not a scan")
    ...

def computation(run):
    return True, 3, [1, 2, 3]

@Variable(title="Peaks")
def peaks(run):
    success, counts, data = computation(run)
    return Cell(
        data=data,
        summary_value=f"{counts} peaks detected" if success else "No peak",
        bold=True,
        background="#7cfc00" if success else "#ff0000"
    )
""")
    assert graph.nodes["agipd_data"].variable.tags == ("detector", "agipd", "raw")
    assert graph.nodes["detector_preview"].data == "proc"
    assert graph.nodes["foo"].backend == "cluster"
    assert isinstance(notes.errors["binned_by_scan_step"], Skip)
    assert isinstance(notes.values["peaks"], Cell)
    assert notes.values["peaks"].background == (124, 252, 0)


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
def test_dependencies(computed, future):
    _, notes = computed(
        """
@Variable(title="foo")
def foo(run, run_no: "meta#run_number"):
    # Just return the run number
    return run_no

@Variable(title="bar")
def bar(run, value: "var#foo"):
    # Now bar() will be executed after foo(), and we can use its return value
    return value * 2

@Variable(title="baz")
def baz(run, value: "var#foo"=42):
    # This will return the result of foo() if foo() succeeded, otherwise 42
    return value
""",
        head=future + "from damnit_ctx import Variable\n",
    )
    assert notes.values == {"foo": 42, "bar": 84, "baz": 42}


GROUPS = """
from extra.components import XGM
from damnit_ctx import Variable, Group

@Group(title="XGM Diag", tags=["XGM"])
class XGMDiagnostics:
    # parameters are defined as dataclass fields
    device_name: str = None
    offset: float = 0.0

    @Variable(title="Pulse Energy", summary="mean")
    def pulse_energy(self, run):
        # Use instance attributes for configuration
        return XGM(run, self.device_name).pulse_energy()

    @Variable(title="Corrected Energy", summary="mean")
    def corrected_energy(self, run, energy: "self#pulse_energy"):
        # This has an intra-group dependency on the 'pulse_energy' variable
        return energy + self.offset

# Instantiate the group in your context file, providing parameters values
xgm_sa2 = XGMDiagnostics(title="XGM SA2", device_name="SA2_XTD6_XGM/XGM/DOOCS", offset=1.1)
xgm_hed = XGMDiagnostics(title="XGM HED", device_name="HED_XTD9_XGM/XGM/DOOCS", offset=0.9)

@Variable(title="Global Offset")
def global_offset(run):
    return 42

@Group
class MyGroup:

    @Variable()
    def local_var(self, run, offset: "var#global_offset"):
        # Correctly depends on the top-level global_offset
        return 10 + offset

    @Variable()
    def another_var(self, run, xgm_energy: "var#xgm_hed.corrected_energy"):
        # Correctly depends on a variable from another group instance
        return xgm_energy * 2

instance = MyGroup("Group")

@Group(title="DET")
class Detector:
    name: str = "LPD"

    @Variable(title="Photon Count")
    def n_photons(self, run):
        return run.alias[self.name]['photon-count'].xarray()

# MIDDiagnostics composes XGMDiagnostics and Detector
@Group(title="MID Diag", tags=["MID", "Diag"])
class MIDDiagnostics:
    # Nested instances of other groups
    xgm: XGMDiagnostics = None
    agipd = Detector(title="AGIPD", name="AGIPD1M")

    # This variable can depend on children of the nested groups
    @Variable(title="Photons per µJ")
    def photons_per_microjoule(self, run,
                               photons: "self#agipd.n_photons",
                               energy: "self#xgm.corrected_energy"):
        return photons / energy

# Instantiate the top-level group
mid = MIDDiagnostics(
    xgm=XGMDiagnostics(
        title="XGM SA2",
        device_name="SA2_XTD6_XGM/XGM/DOOCS",
        offset=1.1,
        tags=["XGM", "SA2"]
    ),
)

@Group(title='Base')
class BaseAnalysis:
    @Variable(title="Train Count")
    def n_trains(self, run):
        return len(run.train_ids)

# inherits base class' Group properties (e.g. title='Base')
class DetectorAnalysis(BaseAnalysis):  # Inherits n_trains
    @Variable(title="Photon Count", data="proc")
    def photon_count(self, run, n_trains: "self#n_trains"):
        # Depends on an inherited variable
        return 1e6 / n_trains

# Sub class decorate with @Group resets Group's properties
@Group(tags=["Alt"])
class DetectorAnalysisAlt(BaseAnalysis):
    ...

# This instance will have two variables: detector.n_trains and detector.photon_count
detector = DetectorAnalysis("Detector")
"""


def test_groups(computed):
    graph, notes = computed(GROUPS)
    assert not notes.errors
    assert {name: node.title for name, node in graph.nodes.items()} == {
        "xgm_sa2.pulse_energy": "XGM SA2/Pulse Energy",
        "xgm_sa2.corrected_energy": "XGM SA2/Corrected Energy",
        "xgm_hed.pulse_energy": "XGM HED/Pulse Energy",
        "xgm_hed.corrected_energy": "XGM HED/Corrected Energy",
        "global_offset": "Global Offset",
        "instance.local_var": "Group/local_var",
        "instance.another_var": "Group/another_var",
        "mid.xgm.pulse_energy": "MID Diag/XGM SA2/Pulse Energy",
        "mid.xgm.corrected_energy": "MID Diag/XGM SA2/Corrected Energy",
        "mid.agipd.n_photons": "MID Diag/AGIPD/Photon Count",
        "mid.photons_per_microjoule": "MID Diag/Photons per µJ",
        "detector.n_trains": "Detector/Train Count",
        "detector.photon_count": "Detector/Photon Count",
    }
    assert graph.nodes["mid.xgm.pulse_energy"].variable.tags == ("MID", "Diag", "XGM", "SA2")
    assert notes.values["instance.another_var"].mean() == pytest.approx(11.8)
    assert notes.values["mid.photons_per_microjoule"].mean() == pytest.approx(2)
    assert notes.values["detector.photon_count"] == 250_000
    assert graph.nodes["detector.photon_count"].data == "proc"
