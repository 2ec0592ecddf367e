"""What operators do with `runtable jobs`, at a daemon with real jobs and without one."""

import getpass
import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from beamtime import Beamtime, processes_of
from helpers import wait_until

pytestmark = pytest.mark.system

CONTEXT = """
import subprocess, time
from pathlib import Path
from damnit_ctx import Variable

HERE = Path(__file__).parent

@Variable()
def quick(run):
    print("quick is at work")
    return 1

@Variable()
def slow(run, quick: "var#quick"):
    if not (HERE / "open").exists():
        # A grandchild in a session of its own, which names the folder.
        subprocess.Popen(["sh", "-c", f"sleep 600; : {HERE} grandchild"], start_new_session=True)
        (HERE / "begun").touch()
    while not (HERE / "open").exists():
        time.sleep(0.02)
    print("slow is done")
    return 2
"""
ME = f"{getpass.getuser()}@{socket.gethostname()}"


@pytest.fixture
def beamtime(tmp_path: Path, example_proposal: Path) -> Iterator[Beamtime]:
    place = Beamtime(tmp_path, example_proposal)
    place.init(CONTEXT, local_jobs=1, stop_grace=0)
    yield place
    place.close()


def words(text: str) -> str:
    """`text` with single spaces, as columns move."""
    return re.sub(r"[ \t]+", " ", text)


def begun(place: Beamtime) -> None:
    """Wait until the slow variable is at work, and forget that."""
    file = place.folder / "begun"
    wait_until(file.exists)
    file.unlink()


def state(place: Beamtime, job: str) -> str:
    return next(str(row[3]) for row in place.jobs() if row[0] == job)


def job_of(place: Beamtime, run: int) -> str:
    return str(wait_until(lambda: next((row[0] for row in place.jobs() if row[1] == run), None)))


def grandchildren(place: Beamtime) -> list[int]:
    return processes_of(place.folder, ["grandchild"])


@pytest.mark.timeout(120)
def test_the_life_of_an_operator(beamtime: Beamtime) -> None:
    place, run = beamtime, beamtime.run
    place.listen()
    place.arrive(1)
    begun(place)
    place.arrive(2)
    first, second = job_of(place, 1), job_of(place, 2)

    listed = words(run("jobs").stdout)
    assert f"{first} 1 raw running 1 " in listed
    assert f"{second} 2 raw queued" in listed
    assert second not in run("jobs", "--state", "running").stdout
    shown = words(run("jobs", "show", first).stdout)
    assert "State running, 1 of 2 variables done, now slow" in shown
    assert "quick finished 1 " in shown
    assert "\nquick is at work\n" in run("jobs", "log", first).stdout
    assert run("jobs", "log", second).stderr == f"Job {second} is queued\n"

    # A job that waits is taken back, one that runs is stopped with all that it has started.
    run("jobs", "cancel", second, "--reason", "wrong run")
    assert state(place, second) == "canceled"
    refused = run("jobs", "cancel", first, check=False)
    assert (refused.returncode, "can be stopped, not canceled" in refused.stderr) == (1, True)
    assert grandchildren(place)
    assert run("jobs", "stop", first).stdout == f"{first}  run 1 raw: told to stop\n"
    wait_until(lambda: state(place, first) == "stopped")
    assert grandchildren(place) == []
    wait_until(lambda: "in the run file" in run("jobs", "show", first).stdout)
    assert (place.value(1, "quick"), place.value(1, "slow")) == (1, None)

    # Both run again; what was known of them stays.
    (place.folder / "open").touch()
    done = run("jobs", "requeue", first, second, "20990101", check=False)
    assert done.returncode == 1
    assert done.stderr == "Error: there is no job '20990101'\n"
    assert f"{second}  run 2 raw: queued for another attempt" in done.stdout
    followed = run("jobs", "log", "--follow", second).stdout
    assert followed.count("slow is done") == 1
    place.wait_for_jobs(2)
    assert [place.value(number, "slow") for number in (1, 2)] == [2, 2]
    shown = words(run("jobs", "show", second).stdout)
    history = shown.partition("History:\n")[2].partition("\n\n")[0].splitlines()[1:]
    steps = [re.sub(r"^\S+ \S+ ", "", line) for line in history]
    assert steps == [
        f"0 queued server ({ME}) filesystem",
        f"0 canceled ops ({ME}) wrong run",
        f"0 queued ops ({ME}) requeued by {ME}",
        f"1 dispatched claim ({ME}) its turn",
        f"1 running owner ({ME}) claimed",
        f"1 finished owner ({ME})",
    ]

    # A finished one is computed again only with force.
    refused = run("jobs", "requeue", first, check=False)
    assert (refused.returncode, "has finished: use --force" in refused.stderr) == (1, True)
    (place.folder / "open").unlink()
    run("jobs", "requeue", "--force", first)
    begun(place)
    assert "given up" in run("jobs", "fail", first, "--reason", "hangs").stdout
    wait_until(lambda: not grandchildren(place))
    assert state(place, first) == "failed"
    assert words(run("jobs", "--state", "failed").stdout).rstrip().endswith("hangs")
    wait_until(lambda: "in the run file" in run("jobs", "show", first).stdout)
    assert len(place.jobs()) == 2  # nothing is computed again because of that
    assert "Traceback" not in place.log()


@pytest.mark.timeout(120)
def test_without_a_daemon(beamtime: Beamtime) -> None:
    place, run = beamtime, beamtime.run
    daemon = place.listen()
    place.arrive(1)
    begun(place)
    place.arrive(2)
    first, second = job_of(place, 1), job_of(place, 2)
    daemon.kill()
    daemon.wait()
    run("jobs", "cancel", second)
    stopped = run("jobs", "stop", first)
    assert "No daemon runs" in stopped.stderr
    assert state(place, first) == "stop_requested"
    wait_until(lambda: not grandchildren(place))

    # A row that cannot be read is listed, and cleaned up on demand, as what belongs to no job is.
    with closing(sqlite3.connect(place.folder / "daemon.sqlite")) as database:
        database.execute(
            """INSERT INTO jobs (id, proposal, run, data, match, cluster, mock, backend, inputs,
               source, live, state, created, started) VALUES ('odd', 1234, 7, 'raw', '[oops', 0, 0,
               'local', '[]', 'x', 0, 'finished', 'noon', x'ff')"""
        )
        database.commit()
    (place.folder / "jobs/stray").mkdir()
    assert "the row of job odd cannot be read" in run("jobs").stdout
    assert "the row of job odd cannot be read" in run("jobs", "show", "odd").stdout
    told = words(run("jobs", "cleanup", "--dry-run").stdout)
    assert "\nfolder stray it belongs to no job\n" in told
    assert "\n2 things would be removed\n" in told
    assert (place.folder / "jobs/stray").exists()
    assert run("jobs", "cleanup").stdout.endswith("2 things removed\n")
    assert run("jobs", "cleanup").stdout == "There is nothing to remove.\n"
    assert not (place.folder / "jobs/stray").exists()
    assert len(place.jobs()) == 2

    place.listen()
    wait_until(lambda: state(place, first) == "stopped")
    assert state(place, second) == "canceled"
    place.wait_for_jobs(1)
    assert place.value(1, "quick") == 1
