"""What is computed for every run of plain HDF5 or NeXus files (setting `source`: hdf5).

`run["entry/data/counts"]` finds a dataset in whichever file of the run it is; the variable Contents
lists what there is. Check this file with `runtable read-context`, and fill the rows of earlier runs
with `runtable reprocess all`.
"""

from pathlib import Path

import xarray as xr
from damnit_ctx import Skip, Variable

TITLE = "entry/title"
POSITION = "entry/data/position"
COUNTS = "entry/data/counts"
MONITOR = "entry/monitor/data"


def read(run, path):
    """The values of a dataset, or a skipped variable where the run does not have it."""
    if path not in run:
        raise Skip(f"{path} is not in this run")
    return run[path][()]


@Variable(title="Contents", tags="run")
def contents(run):
    """The paths of all datasets: take from here what you write above."""
    return list(run)


@Variable(title="Size", units="MB", tags="run")
def size(run):
    return sum(Path(file).stat().st_size for file in run.files) / 1e6


@Variable(title="Title", tags="run")
def title(run):
    text = read(run, TITLE)
    return text.decode() if isinstance(text, bytes) else str(text)


@Variable(title="Counts", summary="sum", tags="scan")
def counts(run):
    """Counts by position. The table shows their sum; a double click shows the curve."""
    return xr.DataArray(
        read(run, COUNTS), dims="position", coords={"position": read(run, POSITION)}
    )


# A variable can use the results of others: it is evaluated after them.
@Variable(title="Peak", tags="scan")
def peak(run, counts: "var#counts"):
    """The position with the most counts."""
    return float(counts.idxmax())


@Variable(title="Normalised counts", tags="scan")
def normalised(run, counts: "var#counts"):
    """Counts by those of the monitor. Without a summary, the table shows the curve itself."""
    return counts / read(run, MONITOR)


# Matplotlib and Plotly figures can be returned too. With data="proc" a variable waits for the
# run's processed data, where run_pattern says that those are apart.
