"""`runtable backends test`: a tiny job through a backend, and what works and what does not."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from beamtime import RUNTABLE, Beamtime
from helpers import wait_until
from slurm_cluster import SlurmCluster
from web_server import token, web_server

from daemon.backends.trial import PREFIX

pytestmark = pytest.mark.system


@pytest.fixture
def beamtime(tmp_path: Path, example_proposal: Path) -> Iterator[Beamtime]:
    place = Beamtime(tmp_path, example_proposal)
    place.init("no python, as no job of the database is run", settle_seconds=3600)
    yield place
    assert list(place.folder.glob(f"{PREFIX}*")) == []
    place.close()


def tried(beamtime: Beamtime, name: object, code: int = 0) -> str:
    """What `backends test` says, which has to exit with `code`."""
    done = beamtime.run("backends", "test", name, "--wait", "5", check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr + done.stdout


def test_what_works_and_what_does_not(beamtime: Beamtime) -> None:
    said = tried(beamtime, "local")
    assert "in this command" in said
    beamtime.listen()
    said = tried(beamtime, "local")
    assert "by a daemon on " in said
    for words in ("begin: on ", "result: Python 3", "output: ", "local works"):
        assert words in said
    assert beamtime.jobs() == []
    # Nobody has it, nobody can have it, or nobody comes for it.
    assert "there is no backend 'lokal' (did you mean 'local'?" in tried(beamtime, "lokal", 2)
    beamtime.configure("early", "type: local\ntimeout: 5\n")
    assert "timeout: " in tried(beamtime, "early", 2)
    beamtime.configure("image", "type: container\nengine: podman\nimage: there/is:none\n")
    said = tried(beamtime, "image", 1)
    assert "image does not work yet" in said
    assert "FAILED" in said
    assert "FAILED  agents: no agent is online: `runtable agent" in tried(beamtime, "agent", 1)
    beamtime.configure("dry", "type: dummy\n")
    assert "result: none came back: nothing was run" in tried(beamtime, "dry", 1)
    # What the variable's Python does not have it says.
    (beamtime.folder / "bare").mkdir()
    (beamtime.folder / "bare/xarray.py").write_text("raise ImportError('no xarray here')")
    bare = beamtime.path / "bare.yml"
    bare.write_text(f"type: local\nenv_vars: {{PYTHONPATH: '{beamtime.folder}/bare'}}\n")
    bare.chmod(0o640)
    assert "no xarray here" in tried(beamtime, bare, 1)


def test_agents_are_tried_through_the_queue(beamtime: Beamtime) -> None:
    beamtime.listen()
    with web_server(beamtime.folder, "--port", "0") as web:
        secret = token(beamtime.folder, "agent", "gpu-1")
        (beamtime.path / "token").write_text(secret)
        command = [*RUNTABLE, "agent", "--server", web.url, "--id", "gpu-1"]
        agent = subprocess.Popen([*command, "--token-file", str(beamtime.path / "token")])
        try:
            with web.client() as http:
                wait_until(lambda: http.get("/api/hosts").json()["available_hosts"])
            said = tried(beamtime, "agent")
        finally:
            agent.terminate()
            agent.wait(20)
    assert "begin: with agent gpu-1" in said
    assert "agent works" in said


def test_slurm(
    beamtime: Beamtime, slurm_cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", slurm_cluster.environment["SLURM_CONF"])
    away = beamtime.path / "away"
    away.symlink_to(beamtime.folder)
    beamtime.configure("away", f"type: slurm\ndatabase_path: {away}\n")
    said = tried(beamtime, "away")
    assert "queue: " in said
    assert "away works" in said
    # Nothing of it is known there by its path here.
    number, *_ = slurm_cluster.run("squeue", "-h", "--states=all", "--sort=-i", "-o%A").split()
    script = slurm_cluster.run("scontrol", "write", "batch_script", number, "-")
    assert (str(away) in script, str(beamtime.folder) in script) == (True, False)
    beamtime.configure("closed", "type: slurm\npartition: closed\n")
    said = tried(beamtime, "closed", 1)
    assert "has not begun within 5 s (--wait S): waits in Slurm: its partition is down" in said
    beamtime.configure("nowhere", "type: slurm\npartition: nowhere\n")
    assert "invalid partition specified: nowhere" in tried(beamtime, "nowhere", 1)
    wait_until(lambda: not slurm_cluster.run("squeue", "--noheader", "--partition=closed"))
