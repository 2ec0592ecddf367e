"""A full disk, and one that cannot be written: the daemon waits, and nothing of a run is lost."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from beamtime import RUNTABLE, STRANGER, Beamtime
from helpers import wait_until
from witness import HELD_UP, Witness, marked

from ctxlib.table import RunTable

pytestmark = pytest.mark.system

SIZE = 16 << 20

CONTEXT = (
    HELD_UP
    + """
@Variable(title="Big", timeout=2)
def big(run, number: "meta#run_number", _slow: "var#slow"):
    if number == 5:
        call(number, "big")
        return np.random.default_rng(number).random(3 << 17)
"""
)
"""Run 5 needs 3 MB for its fragment, and as much for its file."""


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory, example_proposal: Path) -> Iterator[Witness]:
    """A database folder on a small disk of its own."""
    beamtime = Beamtime(tmp_path_factory.mktemp("disk"), example_proposal)
    beamtime.folder.mkdir(parents=True)
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk: run the tests as root, in a container say")
    mount("-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", beamtime.folder)
    try:
        with marked(beamtime) as witness:
            beamtime.init(CONTEXT, stop_grace=0, local_jobs=4)
            yield witness
    finally:
        subprocess.run(["umount", "--lazy", str(beamtime.folder)], check=True)


def mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def fill(folder: Path) -> Path:
    """Fill the disk to its last block."""
    filler = folder / "filler"
    with filler.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return filler


def check_complete(witness: Witness, run: int) -> None:
    beamtime = witness.beamtime
    row = witness.wait_until_done(witness.job(run))
    assert (row["state"], row["combined"], row["lost"]) == ("finished", 1, 0), row["reason"]
    assert (beamtime.value(run, "first"), beamtime.value(run, "last")) == (1, 4951.0)
    results = RunTable(witness.folder)[run]
    assert (results["array"].read()[99], results["last"].read()) == (99.0, 4951.0)
    assert witness.calls(run)["last"] == 1
    assert witness.errors(run) == {"fails": ("ValueError", "no such motor")}


def test_a_disk_that_fills_up_during_a_run(witness: Witness) -> None:
    beamtime, daemon = witness.beamtime, witness.served()
    witness.release(2)
    beamtime.arrive(1)
    witness.wait_for_call(1, "slow")
    filler = fill(witness.folder)
    (witness.folder / "go-1").symlink_to(witness.folder)  # takes no block
    refused = beamtime.run("notify", "--run", 1, "--data", "proc", check=False)
    assert (refused.returncode, "full" in refused.stderr) == (1, True)
    beamtime.arrive(2)
    wait_until(lambda: "disk is full" in said(beamtime))
    assert daemon.poll() is None
    witness.kill_daemon()
    (witness.folder / "control.json").unlink()
    fill(witness.folder)
    waiting = beamtime.start_daemon()
    wait_until(
        lambda: f"process {waiting.pid} of" in said(beamtime) or "No space" in said(beamtime)
    )
    assert waiting.poll() is None
    filler.unlink()
    wait_until(lambda: f'"pid": {waiting.pid},' in control(witness), 30)
    check_complete(witness, 1)
    wait_until(lambda: [job for job in beamtime.jobs() if job[1] == 2])
    check_complete(witness, 2)
    waiting.terminate()
    assert waiting.wait(20) == 0
    hidden = [path for path in witness.folder.rglob(".*") if path.is_file()]
    assert hidden == []


def said(beamtime: Beamtime) -> str:
    """What daemons said, in the log or, where that was full, on the terminal."""
    return beamtime.log() + (beamtime.path / "listen.out").read_text()


def control(witness: Witness) -> str:
    path = witness.folder / "control.json"
    return path.read_text() if path.exists() else ""


def test_a_folder_that_cannot_be_written(witness: Witness) -> None:
    wait_until(lambda: not witness.processes())
    mount("-o", "remount,ro", witness.folder)
    try:
        table = RunTable(witness.folder)
        assert table.table()["first"].tolist() == [1, 1]
        assert table[1]["array"].read()[99] == 99.0
        refused = witness.beamtime.run("reprocess", 1, check=False)
        assert refused.returncode == 1
        assert "Read-only" in refused.stderr
        assert "Traceback" not in refused.stderr
        waiting = witness.beamtime.start_daemon()
        before = said(witness.beamtime).count("Read-only file system")
        wait_until(lambda: said(witness.beamtime).count("Read-only file system") > before)
        assert waiting.poll() is None
    finally:
        mount("-o", "remount,rw", witness.folder)
    wait_until(lambda: f'"pid": {waiting.pid},' in control(witness), 30)
    witness.beamtime.run("reprocess", 1, "--var", "first")
    assert witness.calls(1)["first"] == 2
    waiting.terminate()
    waiting.wait(20)


def test_folders_that_are_closed_to_the_daemon(witness: Witness) -> None:
    beamtime = witness.beamtime
    before, daemon = len(beamtime.log()), beamtime.listen(STRANGER)
    closed = [witness.folder / name for name in ("jobs", "extracted_data")]
    beamtime.arrive(3)
    witness.wait_for_call(3, "slow")
    for path in closed:
        path.chmod(0o755)
        os.chown(path, 65534, 65534)
    (witness.folder / "go-3").touch()
    (witness.folder / "go-4").touch()
    wait_until(lambda: "Permission denied" in beamtime.log())
    beamtime.arrive(4)
    wait_until(lambda: "jobs cannot be started" in beamtime.run("status").stdout)
    for path in closed:
        os.chown(path, 0, 0)
    check_complete(witness, 3)
    check_complete(witness, 4)
    assert "Traceback" not in beamtime.log()[before:]
    daemon.terminate()
    assert daemon.wait(20) == 0


def test_results_that_are_too_large_for_the_disk(witness: Witness) -> None:
    beamtime, folder = witness.beamtime, witness.folder
    wait_until(lambda: not witness.processes())
    beamtime.arrive(5)
    told = beamtime.path / "terminal.txt"
    with told.open("wb") as terminal:
        waiting = subprocess.Popen([*RUNTABLE, "reprocess", "5"], cwd=folder, stderr=terminal)
    witness.wait_for_call(5, "slow")
    filler = fill(folder)
    os.truncate(filler, filler.stat().st_size - (2 << 20))
    (folder / "go-5").symlink_to(folder)
    big = "run 5: big: its result cannot be saved, and waits until it can: No space left on device"
    wait_until(lambda: f"waiting: {big}" in told.read_text())
    assert "now big 1 of 1, its result cannot" in beamtime.run("status").stdout
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 2.2)  # longer than its timeout
    os.truncate(filler, filler.stat().st_size - (2 << 20))
    written = "run 5: its results wait to be written: [Errno 28] No space left on device"
    wait_until(lambda: f"waiting: {written}" in told.read_text(), 30)
    assert f"Waiting       {written}" in beamtime.run("status").stdout
    filler.unlink()
    check_complete(witness, 5)
    assert len(RunTable(folder)[5]["big"].read()) == 3 << 17
    assert witness.calls(5)["big"] == 1
    assert waiting.wait(30) == 0
