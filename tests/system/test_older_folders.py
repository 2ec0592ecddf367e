"""A daemon takes over a folder that an older DAMNIT has made, and goes on in it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from beamtime import Beamtime
from helpers import wait_until
from old_formats import make_numbered
from peer import ask, needs_peer

from ctxlib import RunTable

pytestmark = pytest.mark.system

CONTEXT = """
from damnit_ctx import Variable

@Variable(title="Energy", tags="beam")
def energy(run):
    return 8.5

@Variable(title="Number")
def number(run, n: "meta#run_number"):
    return [n, n + 1]
"""


@pytest.fixture
def beamtime(tmp_path: Path, example_proposal: Path) -> Iterator[Beamtime]:
    beamtime = Beamtime(tmp_path, example_proposal)
    yield beamtime
    beamtime.close()


@needs_peer
def test_new_results_stand_beside_the_old(beamtime: Beamtime) -> None:
    path = make_numbered(beamtime.folder, 1)
    settings = {"proposal_path": str(beamtime.path), "memory_reserve": "0", "settle_seconds": 0.2}
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany("INSERT INTO metameta VALUES (?, ?)", settings.items())
    beamtime.write_context(CONTEXT)
    beamtime.listen()
    beamtime.arrive(1)
    wait_until(lambda: beamtime.value(1, "number"), 60)
    beamtime.wait_for_jobs(1)
    assert (beamtime.value(1, "energy"), beamtime.value(2, "energy")) == (8.5, 9.4)
    assert (beamtime.value(1, "sample"), beamtime.value(1, "comment")) == ("water", "a good one")
    table = RunTable(beamtime.folder)
    assert table[1, "number"].read().tolist() == [1, 2]
    read = ask(beamtime.folder, 1)
    assert read["variables"].keys() >= {"energy", "number"}
