"""Where jobs run: several backends at once, by name and by file."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from beamtime import Beamtime

CONTEXT = """
import os
from damnit_ctx import Variable

@Variable(title="First")
def first(run):
    with open("calls", "a") as file:
        file.write("first\\n")
    return 1

@Variable(title="Fast", backend="fast")
def fast(run, value: "var#first"):
    return value + int(os.environ["SHIFT"])

@Variable(title="Costly", cluster=True)
def costly(run, value: "var#fast"):
    return value + 1

@Variable(title="Dependent")
def dependent(run, value: "var#costly"):
    return value + 1

@Variable(title="Lost", backend="fats")
def lost(run):
    return 1
"""


@pytest.fixture
def beamtime(tmp_path: Path, example_proposal: Path) -> Iterator[Beamtime]:
    place = Beamtime(tmp_path, example_proposal)
    place.init(CONTEXT)
    place.configure("fast", "type: local\ntimeout: 90\nenv_vars:\n  SHIFT: '7'\n")
    place.configure("away", "type: slurm\n")
    yield place
    place.close()


def requests(beamtime: Beamtime) -> dict[str, dict[str, object]]:
    """The requests of all jobs by the part of their run."""
    found = [json.loads(p.read_text()) for p in beamtime.folder.glob("jobs/*/job.json")]
    return {request["part"]: request for request in found}


def test_variables_run_where_they_say(beamtime: Beamtime) -> None:
    beamtime.listen()
    beamtime.arrive(1)
    beamtime.wait_for_jobs(3)
    assert [beamtime.value(1, name) for name in ("first", "fast", "dependent")] == [1, 8, 10]
    assert (beamtime.folder / "calls").read_text() == "first\n"
    asked = requests(beamtime)
    assert {part: request["backend"] for part, request in asked.items()} == {
        "": "local",
        "fast": "fast",
        "cluster": "cluster",
    }
    assert asked["fast"]["timeout"] == 90
    assert "there is no backend 'fats' (did you mean 'fast'?" in beamtime.attributes(1, "lost")

    # All of it in one job there, for this once; the fork server has the environment.
    beamtime.run("reprocess", "1", "--backend", "fast")
    assert requests(beamtime)["*"]["backend"] == "fast"
    once = beamtime.path / "once.yml"
    once.write_text("type: local\ntimeout: 70\n")
    beamtime.run("reprocess", "1", "--backend", once)
    last = max(beamtime.folder.glob("jobs/*/job.json"), key=lambda path: path.stat().st_mtime)
    request = json.loads(last.read_text())
    assert request["backend"].startswith("once@")
    assert (request["timeout"], request["part"]) == (70, "*")
    refused = beamtime.run("reprocess", "1", "--backend", "fats", check=False)
    assert refused.returncode == 1
    assert "there is no backend 'fats' (did you mean 'fast'?" in refused.stderr
