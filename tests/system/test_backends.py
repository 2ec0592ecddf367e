"""Where jobs run: several backends at once, by name and by file, for variables and commands."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from beamtime import RUNTABLE, Beamtime, programs_of
from containers import IMAGE, ContainerEngine, volumes
from helpers import wait_until
from secrecy import kept_secret
from slurm_cluster import SlurmCluster

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
    return value + int(os.environ["SHIFT"].rpartition("-")[2])

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
    place.configure("away", "type: slurm\n")
    with kept_secret(tmp_path / "secret", place.path, ending="7") as secret:
        place.configure("fast", f"type: local\ntimeout: 90\nsecret_env_vars: {{SHIFT: '{secret}'}}")
        yield place
        place.close()
        assert programs_of(place.folder) == []


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
    for how in ([], ["--dry-run"]):
        refused = beamtime.run("reprocess", "1", "--backend", "fats", *how, check=False)
        assert refused.returncode == 2
        assert "there is no backend 'fats' (did you mean 'fast'?" in refused.stderr


def test_commands_run_where_they_are_told_to(beamtime: Beamtime) -> None:
    (beamtime.folder / "context.py").write_text("no python")  # a command needs none
    done = beamtime.run(
        "run", "--backend", "fast", "--", "echo ${SHIFT##*-} 'a b'; pwd; exit 3", check=False
    )
    assert (done.returncode, "failed: the command ended with exit code 3" in done.stderr) == (
        1,
        True,
    )
    job = done.stderr.split()[1]
    said = (beamtime.folder / f"process_logs/{job}.out").read_text()
    assert f"7 a b\n{beamtime.folder}\n" in said
    shown = beamtime.run("jobs", "show", job).stdout
    assert "echo ${SHIFT" in shown
    assert "exit code 3" in shown
    assert "7 a b" in beamtime.run("jobs", "log", job).stdout

    beamtime.listen()
    assert beamtime.run("run", "--", "sh", "-c", "exit 0").returncode == 0
    late = beamtime.run("run", "--time", "0.5", "--", "sleep 987 & sleep 988", check=False)
    assert late.returncode == 1
    assert "took longer than" in late.stderr
    assert sleeping("987", "988") == []
    left = subprocess.Popen(
        [*RUNTABLE, "run", "--", "echo begun; sleep 989"],
        cwd=beamtime.folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert left.stderr is not None
    waiting = left.stderr.readline().split()[1]
    log = beamtime.folder / f"process_logs/{waiting}.out"
    wait_until(lambda: log.exists() and "begun" in log.read_text())
    left.send_signal(signal.SIGINT)
    said = left.communicate(timeout=20)[1]
    assert (left.returncode, f"jobs stop {waiting}` ends it" in said) == (130, True)
    assert "  command: told to stop" in beamtime.run("jobs", "stop", waiting).stdout
    wait_until(lambda: state(beamtime, waiting) == "stopped")
    assert sleeping("989") == []
    # What still runs in the end goes with the test.
    last = [*RUNTABLE, "run", "--", "echo begun; sleep 990"]
    with subprocess.Popen(last, cwd=beamtime.folder, stderr=subprocess.DEVNULL) as waits:
        wait_until(lambda: programs_of(beamtime.folder))
        waits.kill()

    beamtime.configure("fits", "type: local\ncommand: echo fitted\nworking_dir: /\n")
    fitted = beamtime.run("run", "--backend", "fits").stderr.split()[1]
    assert "fitted" in (beamtime.folder / f"process_logs/{fitted}.out").read_text()
    refused = beamtime.run("reprocess", "1", "--mock", "--backend", "fits", check=False)
    assert "is for commands, by its command" in refused.stderr
    refused = beamtime.run("run", "--backend", "fast", check=False)
    assert "has no command" in refused.stderr
    assert beamtime.rows("SELECT * FROM run_variables") == []


def sleeping(*seconds: str) -> list[str]:
    """The command lines of the programs that sleep for so long."""
    lines = (process.info["cmdline"] for process in psutil.process_iter(["cmdline"]))
    return [line for line in lines if line and line[0] == "sleep" and line[1] in seconds]


def state(beamtime: Beamtime, job: str) -> str:
    """The state of a job, as `jobs show` has it."""
    shown = beamtime.run("jobs", "show", job).stdout
    [line] = [line for line in shown.splitlines() if line.startswith("State")]
    return line.split()[1].rstrip(":,")


def test_cluster_variables_run_in_slurm(
    tmp_path: Path,
    example_proposal: Path,
    slurm_cluster: SlurmCluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLURM_CONF", slurm_cluster.environment["SLURM_CONF"])
    beamtime = Beamtime(tmp_path, example_proposal)
    try:
        beamtime.init(CONTEXT.replace('backend="fast"', "").replace('os.environ["SHIFT"]', '"-7"'))
        (beamtime.folder / "backends/cluster.yml").unlink()
        beamtime.listen()
        beamtime.arrive(1)
        beamtime.wait_for_jobs(2)
        assert [beamtime.value(1, name) for name in ("first", "fast", "dependent")] == [1, 8, 10]
        assert requests(beamtime)["cluster"]["configuration"] == {"type": "slurm"}
        [claim] = beamtime.folder.glob("jobs/*-cluster/1/claim")
        assert json.loads(claim.read_text())["mode"] == "alone"
        assert (beamtime.folder / "calls").read_text() == "first\n"
        places = (beamtime.path, slurm_cluster.prefix)
        with kept_secret(tmp_path / "secret", *places, ending="4") as secret:
            beamtime.configure("away", f"type: slurm\nsecret_env_vars: {{END: '{secret}'}}")
            command = ["run", "--backend", "away", "--", "echo in $SLURM_JOB_ID; exit ${END##*-}"]
            done = beamtime.run(*command, check=False)
            assert (done.returncode, "exit code 4" in done.stderr) == (1, True)
    finally:
        beamtime.close()


def test_variables_run_in_a_container(
    tmp_path: Path, example_proposal: Path, podman: ContainerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in podman.environment.items():
        monkeypatch.setenv(name, value)
    beamtime = Beamtime(tmp_path, example_proposal)
    try:
        beamtime.init(CONTEXT)
        config: dict[str, object] = {
            "type": "container",
            "engine": "podman",
            "image": IMAGE,
            "python": sys.executable,
            "volumes": volumes(),
        }
        with kept_secret(tmp_path / "secret", beamtime.path, ending="7") as secret:
            config["secret_env_vars"] = {"SHIFT": secret}
            beamtime.configure("fast", json.dumps(config))
            beamtime.listen()
            beamtime.arrive(1)
            beamtime.wait_for_jobs(3)
        assert [beamtime.value(1, name) for name in ("first", "fast", "dependent")] == [1, 8, 10]
    finally:
        beamtime.close()
