"""`reprocess --changed` computes what is stale and says why; `--dry-run` shows it."""

import json
from collections.abc import Iterator
from pathlib import Path

import h5py
import pytest
from beamtime import Beamtime

pytestmark = pytest.mark.system

CONTEXT = """
import os
import signal

from damnit_ctx import Parameter, Skip, Variable
from scaling import scaled

OFFSET = 1
low = Parameter(3)

@Variable(title="Base")
def base(run):
    return OFFSET

@Variable(title="Twice")
def twice(run, base: "var#base"):
    return scaled(base)

@Variable(title="Alone")
def alone(run, low: "param#low"):
    return low

@Variable(title="Fails")
def fails(run):
    raise ValueError("always")

@Variable(title="After")
def after(run, x: "var#fails"):
    return x

@Variable(title="Dies")
def dies(run):
    os._exit(3)

@Variable(title="Big", cluster=True)
def big(run, base: "var#base"):
    return base
"""
EVERY = ["after", "alone", "base", "big", "dies", "fails", "twice"]


@pytest.fixture
def beamtime(tmp_path: Path, example_proposal: Path) -> Iterator[Beamtime]:
    beamtime = Beamtime(tmp_path, example_proposal)
    beamtime.init(CONTEXT)
    (beamtime.folder / "scaling.py").write_text("def scaled(x):\n    return 2 * x\n")
    yield beamtime
    beamtime.close()


def lines(beamtime: Beamtime, *arguments: object, check: bool = True) -> list[str]:
    return beamtime.run("reprocess", *arguments, check=check).stdout.splitlines()


def test_what_changed_is_computed_again_and_nothing_else(beamtime: Beamtime) -> None:
    why = "there is no record of where its result comes from"
    shown = lines(beamtime, "1-2", "--mock", "--changed", "--dry-run")
    assert shown[0] == "Runs 1,2 (raw and proc data): 7 stale variables"
    assert sorted(shown[1:8]) == [f"  {name}: {why}" for name in EVERY]
    assert shown[8:] == [
        "  job: after, alone, base, dies, fails, twice",
        "  cluster job after it: big",
        "Nothing was done, because of --dry-run",
    ]
    assert beamtime.jobs() == []
    assert beamtime.rows("SELECT name FROM run_variables") == []

    beamtime.listen()
    assert lines(beamtime, "1-2", "--mock")[-1] == "Processed 2 of 2 runs"
    assert lines(beamtime, "1-2", "--mock", "--changed") == ["Runs 1,2: nothing is stale"]
    beamtime.write_context(CONTEXT.replace("import os", '"""Docs."""\nimport os  # for it'))
    assert lines(beamtime, "all", "--mock", "--changed") == ["Runs 1,2: nothing is stale"]

    beamtime.write_context(CONTEXT.replace("OFFSET = 1", "OFFSET = 5"))
    before = beamtime.rows("SELECT run, name, timestamp FROM run_variables WHERE name = 'alone'")
    assert lines(beamtime, "1", "--mock", "--changed") == [
        "Run 1 (raw and proc data): 3 stale variables",
        "  base: constant OFFSET changed",
        "  twice: 'base', which it needs, changed",
        "  big: 'base', which it needs, changed",
        "  job: base, twice",
        "  cluster job after it: big",
        "Processed 1 of 1 run",
    ]
    assert [beamtime.value(1, name) for name in ("base", "twice", "big")] == [5, 10, 5]
    assert beamtime.value(2, "base") == 1
    after = beamtime.rows("SELECT run, name, timestamp FROM run_variables WHERE name = 'alone'")
    assert after == before
    with h5py.File(beamtime.run_file(1)) as file:
        origin = json.loads(file["twice"].attrs["_damnit_runtable_origin"])
    assert {"source", "variable:base", "module:scaling.py"} < origin["fingerprint"].keys()
    assert {"host", "job", "attempt", "time", "versions", "context_sha256"} < origin.keys()

    (beamtime.folder / "scaling.py").write_text("def scaled(x):\n    return 3 * x\n")
    assert lines(beamtime, "1", "--mock", "--changed", "--match", "twi")[:4] == [
        "Run 1 (raw and proc data): 1 stale variable",
        "  twice: helper module scaling.py changed",
        "  job: base, twice",
        "  computed again as others need it: base",
    ]
    beamtime.run("db-config", "param.low", "8")
    assert lines(beamtime, "1", "--mock", "--changed", "--dry-run")[1] == (
        "  alone: parameter low was 3, is 8"
    )
    again = lines(beamtime, "1", "--mock", "--changed", "--param", "low=3")
    assert again == ["Run 1: nothing is stale"]


def test_any_reprocess_can_be_shown_first(beamtime: Beamtime) -> None:
    beamtime.arrive(3)
    assert lines(beamtime, "3", "--var", "twice", "--dry-run") == [
        "Run 3 (raw data): 1 variable",
        "  job: base, twice",
        "  computed again as others need it: base",
        "Nothing was done, because of --dry-run",
    ]
    missing = beamtime.run("reprocess", "9", "--dry-run")
    assert "Skipped run 9: no data in" in missing.stderr
    wrong = beamtime.run("reprocess", "3", "--var", "twicw", "--dry-run", check=False)
    assert wrong.returncode == 1
    assert "did you mean 'twice'?" in wrong.stderr
    assert beamtime.jobs() == []
    beamtime.write_context("import nonsense_of_all_kinds")
    broken = beamtime.run("reprocess", "3", "--changed", check=False)
    assert broken.returncode == 1
    assert "context.py cannot be executed" in broken.stderr
