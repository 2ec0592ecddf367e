"""The documented type of a package of one's own, installed by pip: used as ours are."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from beamtime import Beamtime
from helpers import wait_until

pytestmark = pytest.mark.system

PAGE = Path(__file__).parents[2] / "docs/own-backends.md"
FILE = re.compile(
    r"^```[^\n]*\n# (?P<name>patient/\S+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
CONTEXT = """
import os
from damnit_ctx import Variable

@Variable
def here(run):
    return os.nice(0)

@Variable(backend="night")
def nice(run, before: "var#here"):
    return os.nice(0) - before
"""


@pytest.fixture
def beamtime(
    tmp_path: Path, example_proposal: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Beamtime]:
    """A database whose programs have the package of the page installed."""
    for file in FILE.finditer(PAGE.read_text()):
        (tmp_path / file["name"]).parent.mkdir(exist_ok=True)
        (tmp_path / file["name"]).write_text(file["text"])
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-index"]
    package, site = tmp_path / "patient", tmp_path / "site"
    subprocess.run([*pip, "--no-deps", "--target", site, package], check=True, timeout=60)
    shutil.rmtree(package)
    monkeypatch.setenv("PYTHONPATH", str(site))
    place = Beamtime(tmp_path, example_proposal)
    place.init(CONTEXT)
    yield place
    place.close()


def test_a_type_of_an_installed_package_is_as_good_as_ours(beamtime: Beamtime) -> None:
    def told(*arguments: object) -> str:
        done = beamtime.run(*arguments)
        return done.stdout + done.stderr

    assert re.search("^patient +patient +ready +Jobs on", told("backends", "list"), re.MULTILINE)
    told("backends", "create", "--backend-type", "patient", "--output", "backends/night.yml")
    daemon = beamtime.listen()
    assert "night works" in told("backends", "test", "night")
    beamtime.arrive(1)
    beamtime.wait_for_jobs(2)
    assert beamtime.value(1, "nice") == 10
    told("reprocess", "1", "--backend", "patient:niceness=3")
    assert beamtime.value(1, "nice") == 0  # in one job with the other
    done = told("run", "--backend", "night", "--", "nice")
    assert "finished" in done
    assert "10\n" in told("jobs", "log", done.split()[1])
    late = ["run", "--backend", "night", "--time", "0.5", "--", "sleep 99"]
    failed = beamtime.run(*late, check=False)
    assert (failed.returncode, "took longer than" in failed.stderr) == (1, True)

    # A daemon that is killed is no end of what runs, and the next one can stop it.
    job = told("run", "--backend", "night", "--no-wait", "--", "echo begun; sleep 98").split()[1]
    log = beamtime.folder / f"process_logs/{job}.out"
    wait_until(lambda: log.exists() and "begun" in log.read_text())
    daemon.kill()
    daemon.wait()
    beamtime.listen()
    assert "night" in told("jobs", "show", job)
    told("jobs", "stop", job)
    wait_until(lambda: [found[3] for found in beamtime.jobs() if found[0] == job] == ["stopped"])
