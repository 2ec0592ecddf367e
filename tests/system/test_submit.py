"""Results from elsewhere show in the table of a daemon at work, to the published reader too."""

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from beamtime import Beamtime
from helpers import wait_until
from peer import ask, needs_peer

from ctxlib import Cell, RunTable, submit

pytestmark = pytest.mark.system

CONTEXT = """
from damnit_ctx import Variable

@Variable(title="Trains")
def trains(run):
    return len(run.train_ids)
"""


@pytest.fixture
def beamtime(tmp_path: Path, example_proposal: Path) -> Iterator[Beamtime]:
    beamtime = Beamtime(tmp_path, example_proposal)
    beamtime.init(CONTEXT)
    yield beamtime
    beamtime.close()


def send(beamtime: Beamtime, run: int = 1, factor: float = 1.0) -> str:
    return submit(
        1234,
        run,
        {"fit.peak": Cell(factor * np.arange(9.0), summary="max", units="eV"), "fit.n": 3},
        provenance="notebook",
        errors={"fit.width": ValueError("too narrow")},
        damnit_dir=beamtime.folder,
    )


def provenance(beamtime: Beamtime, run: int, name: str) -> str:
    query = "SELECT provenance FROM run_variables WHERE run = ? AND name = ?"
    return str(beamtime.rows(query, run, name)[0][0])


def test_beside_the_results_of_the_context(beamtime: Beamtime) -> None:
    beamtime.listen()
    beamtime.arrive(1)
    assert wait_until(lambda: beamtime.value(1, "trains")) == 64
    send(beamtime)
    assert wait_until(lambda: beamtime.value(1, "fit.n")) == 3
    assert "too narrow" in beamtime.attributes(1, "fit.width")
    assert provenance(beamtime, 1, "fit.n") == "notebook"
    assert provenance(beamtime, 1, "trains") == "context.py"
    # At once, while the run file may still be made:
    table = RunTable(beamtime.folder)
    assert table[1, "fit.peak"].read().tolist() == list(range(9))
    beamtime.wait_for_jobs(2)
    assert table[1, "fit.peak"].units == "eV"
    assert table[1, "fit.peak"].summary() == 8.0
    assert table[1, "trains"].read() == 64
    with pytest.raises(KeyError, match="too narrow"):
        table[1, "fit.width"]
    # Once more: it replaces the first.
    send(beamtime, factor=2.0)
    wait_until(lambda: beamtime.value(1, "fit.peak") == 16.0)
    beamtime.wait_for_jobs(3)
    assert table[1, "fit.peak"].read().tolist() == list(range(0, 18, 2))
    assert "finished" in beamtime.run("jobs").stdout


@needs_peer
def test_the_published_reader_sees_them(beamtime: Beamtime) -> None:
    beamtime.listen()
    send(beamtime, 5)
    beamtime.wait_for_jobs(1)
    found = ask(beamtime.folder, 5)
    assert {"fit.peak", "fit.n"} <= set(found["keys"])
    assert found["variables"]["fit.peak"]["read"]["values"] == list(range(9))
    assert found["variables"]["fit.peak"]["units"] == "eV"
    assert found["table"][0]["fit.n"]["values"] == 3


def test_a_daemon_that_is_killed_again_and_again(beamtime: Beamtime) -> None:
    """Everything that was submitted is there in the end, once."""
    runs = range(1, 9)
    for number, run in enumerate(runs):
        daemon = beamtime.listen()
        send(beamtime, run)
        if number % 2:
            wait_until(lambda run=run: beamtime.value(run, "fit.n"))  # type: ignore[misc]
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
    beamtime.listen()
    beamtime.wait_for_jobs(len(runs))
    table = RunTable(beamtime.folder)
    for run in runs:
        assert table[run, "fit.peak"].read().tolist() == list(range(9))
        assert beamtime.value(run, "fit.n") == 3
    assert len(beamtime.jobs("finished")) == len(runs)
    assert list((beamtime.folder / "submitted").iterdir()) == []
