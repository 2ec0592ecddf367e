"""What is computed for every run: each function below fills one column of the run table.

Save this file and the next run is processed with it; nothing needs to be restarted. Check it with
`runtable read-context`, and fill the rows of earlier runs with `runtable reprocess all`.
"""

from damnit_ctx import Variable


@Variable(title="Trains")
def trains(run):
    """Number of trains. `run` is an extra_data DataCollection with the run's raw data."""
    return len(run.train_ids)


# A variable can use the results of others: it is evaluated after them.
@Variable(title="Duration", units="s")
def duration(run, trains: "var#trains"):
    return trains / 10


# Arrays, xarray objects and Matplotlib or Plotly figures can be returned too: they are saved whole,
# and `summary="mean"` names the NumPy function whose result the table shows for an array. With
# data="proc" a variable waits for the run's calibrated data.
