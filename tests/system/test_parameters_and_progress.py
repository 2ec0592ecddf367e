"""What is set from outside reaches variables, and what they say while they run reaches users."""

import json
from collections.abc import Iterator
from pathlib import Path

import h5py
import pytest
from beamtime import Beamtime
from helpers import wait_until

pytestmark = pytest.mark.system

CONTEXT = """
import pathlib
import time

from damnit_ctx import Group, Parameter, Variable, progress

low = Parameter(3, description="Lowest energy that counts.")

@Group
class Camera:
    gain: float = Parameter(1.0)

    @Variable(title="Level")
    def level(self, run):
        return self.gain * 2

camera = Camera()

@Variable(title="Low")
def lowest(run, low: "param#low"):
    return low

@Variable(title="Hidden")
def hidden(run, x: "param#undeclared"):
    return x

@Variable(title="Slow")
def slow(run):
    progress(30, 100, "frames")
    while not pathlib.Path(GATE).exists():
        time.sleep(0.01)
    return 1
"""


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


@pytest.fixture
def beamtime(tmp_path: Path, example_proposal: Path, gate: Path) -> Iterator[Beamtime]:
    beamtime = Beamtime(tmp_path, example_proposal)
    beamtime.init(CONTEXT.replace("GATE", repr(str(gate))))
    yield beamtime
    beamtime.close()


def test_values_come_from_the_command_the_settings_and_the_context(
    beamtime: Beamtime, gate: Path
) -> None:
    gate.touch()
    beamtime.run("db-config", "param.camera.gain", "2.5")
    beamtime.run("db-config", "param.undeclared", "some text")
    beamtime.listen()
    listed = wait_until(lambda: _listed(beamtime, "param.low"))
    assert " ".join(listed.split()) == "param.low 3 3 Lowest energy that counts."
    assert _listed(beamtime, "param.camera.gain").split()[1:3] == ["2.5", "1.0"]

    beamtime.run("reprocess", "1", "--mock")
    assert [beamtime.value(1, name) for name in ("lowest", "camera.level", "hidden")] == [
        *(3, 5.0, "some text"),
    ]
    beamtime.run("reprocess", "1", "--mock", "--param", "low=7", "--param", "camera.gain=4")
    assert [beamtime.value(1, name) for name in ("lowest", "camera.level")] == [7, 8.0]
    with h5py.File(beamtime.run_file(1)) as file:
        origin = json.loads(file["lowest"].attrs["_damnit_runtable_origin"])
        assert origin["params"] == {"low": 7}

    beamtime.run("db-config", "param.low", "5")
    beamtime.run("db-config", "--delete", "param.undeclared")
    beamtime.run("reprocess", "1", "--mock")
    assert beamtime.value(1, "lowest") == 5
    assert "set it with db-config param.undeclared VALUE" in beamtime.attributes(1, "hidden")

    refused = beamtime.run("reprocess", "1", "--mock", "--param", "lwo=7", check=False)
    assert refused.returncode == 1
    assert "context.py has no parameter 'lwo': did you mean 'low'?" in refused.stderr
    noted = beamtime.run("db-config", "param.lwo", "7")
    assert "did you mean 'low'?" in noted.stderr
    wrong = beamtime.run("db-config", "param.a b", "7", check=False)
    assert "'a b' is not the name of a parameter" in wrong.stderr


def _listed(beamtime: Beamtime, key: str) -> str:
    """The line of `db-config` for a key; "" while the daemon has not read the context."""
    lines = beamtime.run("db-config").stdout.splitlines()
    return next((line for line in lines if line.startswith(key + " ")), "")


def test_without_a_daemon_an_unknown_parameter_is_refused_too(beamtime: Beamtime) -> None:
    refused = beamtime.run("reprocess", "1", "--mock", "--param", "lwo=7", check=False)
    assert refused.returncode == 1
    assert "did you mean 'low'?" in refused.stderr


def test_how_far_a_variable_is_shows_while_it_runs(beamtime: Beamtime, gate: Path) -> None:
    beamtime.listen()
    beamtime.run("reprocess", "1", "--mock", "--no-wait")
    report = "slow 30 of 100, frames"
    wait_until(lambda: report in beamtime.run("status").stdout)
    assert report in beamtime.run("jobs").stdout
    gate.touch()
    beamtime.wait_for_jobs(1)
    assert report not in beamtime.run("jobs").stdout
