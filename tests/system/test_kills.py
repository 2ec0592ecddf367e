"""Whatever is killed in the middle of a run: nothing is lost, and nothing done twice."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import pytest
from beamtime import Beamtime
from helpers import wait_until
from witness import HELD_UP, PRELUDE, Witness, marked

pytestmark = pytest.mark.system

ONCE = {"first": 1, "array": 1, "fails": 1, "passing": 1, "slow": 1, "last": 1}
STRAIGHT = [("queued", 0), ("dispatched", 1), ("running", 1), ("finished", 1)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, example_proposal: Path) -> Iterator[Witness]:
    """One folder for the tests of this module, each with a run of its own."""
    beamtime = Beamtime(tmp_path_factory.mktemp("kills"), example_proposal)
    with marked(beamtime) as witness:
        beamtime.init(HELD_UP, stop_grace=0, local_jobs=4)
        yield witness


@pytest.fixture
def held_up(shared: Witness) -> Witness:
    """The folder with a daemon at work."""
    shared.served()
    return shared


def begin(witness: Witness, run: int) -> str:
    """Let `run` arrive and be held up in `slow`; the id of its job."""
    witness.beamtime.arrive(run)
    witness.wait_for_call(run, "slow")
    return witness.job(run)


def check_complete(witness: Witness, run: int, job: str) -> dict[str, Any]:
    """Wait for the end of `job`, and see that the table and the run file have all of it."""
    beamtime = witness.beamtime
    row = witness.wait_until_done(job)
    assert (row["state"], row["combined"]) == ("finished", 1), row["reason"]
    assert witness.done_twice(job) == []
    assert (beamtime.value(run, "first"), beamtime.value(run, "slow")) == (1, 4950.0)
    assert beamtime.value(run, "last") == 4951.0
    assert witness.errors(run) == {"fails": ("ValueError", "no such motor")}
    with h5py.File(beamtime.run_file(run)) as file:
        assert file["array/data"][99] == 99.0
        assert file["last/data"][()] == 4951.0
        assert set(file[".errors"]) == {"fails"}
        assert "passing" not in file
    wait_until(lambda: not list((witness.folder / "jobs" / job).glob("*/fragments")))
    assert not [line for line in witness.processes().values() if line.startswith("sleep")]
    return row


def test_the_daemon(held_up: Witness) -> None:
    job = begin(held_up, 1)
    held_up.kill_daemon()
    before = held_up.runner(job)
    held_up.served()
    held_up.release(1)
    check_complete(held_up, 1, job)
    assert held_up.calls(1) == ONCE
    assert held_up.runner(job) == before
    assert held_up.history(job) == STRAIGHT


def test_the_daemon_while_the_run_goes_on_to_its_end(held_up: Witness) -> None:
    job = begin(held_up, 2)
    server = held_up.claimed_by(job)
    held_up.kill_daemon()
    held_up.release(2)
    wait_until(lambda: held_up.journal(job, "ended"))
    wait_until(lambda: server not in held_up.processes())
    assert held_up.processes() == {}
    held_up.served()
    check_complete(held_up, 2, job)
    assert held_up.calls(2) == ONCE
    assert held_up.history(job) == STRAIGHT


def test_the_daemon_and_the_fork_server(held_up: Witness) -> None:
    job = begin(held_up, 3)
    runner = held_up.runner(job)
    held_up.kill_daemon()
    os.kill(held_up.claimed_by(job), signal.SIGKILL)
    wait_until(lambda: runner not in held_up.processes())
    held_up.release(3)
    held_up.served()
    check_complete(held_up, 3, job)
    assert held_up.calls(3) == {**ONCE, "passing": 2, "slow": 2}
    lost = [("queued", 1), ("dispatched", 2), ("running", 2), ("finished", 2)]
    assert held_up.history(job) == [*STRAIGHT[:3], *lost]


def test_the_daemon_that_is_told_to_stop(held_up: Witness) -> None:
    job = begin(held_up, 4)
    daemon = held_up.served()
    daemon.terminate()
    assert daemon.wait(20) == 0
    held_up.served()
    held_up.release(4)
    check_complete(held_up, 4, job)
    assert held_up.calls(4) == ONCE
    assert held_up.history(job) == STRAIGHT


def test_a_fork_server(held_up: Witness) -> None:
    job = begin(held_up, 5)
    os.kill(held_up.claimed_by(job), signal.SIGKILL)
    held_up.wait_for_call(5, "slow", 2)
    held_up.release(5)
    row = check_complete(held_up, 5, job)
    assert held_up.calls(5) == {**ONCE, "passing": 2, "slow": 2}
    assert (row["attempt"], row["lost"]) == (2, 1)


def test_a_runner(held_up: Witness) -> None:
    job = begin(held_up, 6)
    os.kill(held_up.runner(job), signal.SIGKILL)
    held_up.wait_for_call(6, "slow", 2)
    held_up.release(6)
    row = check_complete(held_up, 6, job)
    assert held_up.calls(6) == {**ONCE, "passing": 2, "slow": 2}
    assert (row["attempt"], row["lost"]) == (1, 0)
    assert held_up.history(job) == STRAIGHT


def stop_combiner(witness: Witness, run: int) -> int:
    """Have `run` end while the process that makes run files stands still; its pid."""
    job = begin(witness, run)
    combiner = witness.one("daemon.store.combiner")
    os.kill(combiner, signal.SIGSTOP)
    witness.release(run)
    wait_until(lambda: ("finished", 1) in witness.history(job))
    return combiner


def test_the_process_that_makes_run_files(held_up: Witness) -> None:
    combiner = stop_combiner(held_up, 7)
    os.kill(combiner, signal.SIGKILL)
    check_complete(held_up, 7, held_up.job(7))
    assert held_up.calls(7) == ONCE


def test_the_daemon_before_the_run_file_is_made(held_up: Witness) -> None:
    combiner = stop_combiner(held_up, 8)
    held_up.kill_daemon()
    wait_until(lambda: combiner not in held_up.processes())
    held_up.served()
    check_complete(held_up, 8, held_up.job(8))
    assert held_up.calls(8) == ONCE


def test_events_that_were_answered_survive_the_daemon(held_up: Witness) -> None:
    beamtime = held_up.beamtime
    for run in (11, 12):
        held_up.release(run)
        beamtime.arrive(run, "proc")
    beamtime.run("notify", "--run", 11, "--data", "proc")
    beamtime.run("notify", "--run", 12, "--data", "proc")
    held_up.kill_daemon()
    held_up.served()
    for run in (11, 12):
        wait_until(lambda run=run: beamtime.value(run, "calibrated") == 1.5)  # type: ignore[misc]
        assert held_up.calls(run)["calibrated"] >= 1


def test_many_runs_at_once_all_get_their_turn(held_up: Witness) -> None:
    runs = range(101, 121)
    for run in runs:
        held_up.release(run)
    held_up.beamtime.run("reprocess", "101-120", "--mock", "--var", "array", "--no-wait")
    held_up.kill_daemon()
    held_up.served()
    held_up.beamtime.run("reprocess", "101-120", "--mock", "--var", "last")
    for run in runs:
        assert held_up.calls(run)["last"] == 1
        assert held_up.calls(run)["array"] == 2
    assert len(held_up.beamtime.jobs("finished")) >= 2 * len(runs)
    assert held_up.beamtime.jobs("queued", "dispatched", "running") == []


DEADLY = (
    PRELUDE
    + """
@Variable(title="First")
def first(run):
    call(0, "first")
    return 1

@Variable(title="Exits")
def exits(run):
    call(0, "exits")
    os._exit(3)

@Variable(title="Kills itself")
def kills_itself(run):
    call(0, "kills_itself")
    os.kill(os.getpid(), signal.SIGKILL)

@Variable(title="Crashes")
def crashes(run):
    call(0, "crashes")
    ctypes.string_at(0)

@Variable(title="Too slow", timeout=0.5)
def too_slow(run):
    call(0, "too_slow")
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    wait_for("never")

@Variable(title="Too big")
def too_big(run):
    call(0, "too_big")
    hoard = []
    while True:
        hoard.append(np.ones(1_000_000))
        time.sleep(0.001)

@Variable(title="After the dead")
def after(run, value: "var#crashes" = 7):
    call(0, "after")
    return value

@Variable(title="Costly", cluster=True)
def costly(run, first: "var#first"):
    call(0, "costly")
    return first + 1

@Variable(title="After costly")
def after_costly(run, costly: "var#costly", after: "var#after"):
    call(0, "after_costly")
    return costly + after
"""
)


def test_a_variable_that_kills_its_process_costs_itself_alone(
    tmp_path: Path, example_proposal: Path
) -> None:
    beamtime = Beamtime(tmp_path, example_proposal)
    with marked(beamtime) as witness:
        beamtime.init(DEADLY, noncluster_mem="300M", stop_grace=0)
        daemon = witness.served()
        beamtime.arrive(1)
        wait_until(lambda: len(beamtime.jobs()) == 2, 60)
        job = witness.job(1)
        row = witness.wait_until_done(job)
        assert row["state"] == "finished"
        errors = {name: f"{kind}: {text}" for name, (kind, text) in witness.errors(1).items()}
        assert errors == {
            "exits": "Killed: ended by itself with exit code 3",
            "kills_itself": "Killed: killed by signal SIGKILL (Killed)",
            "crashes": "Killed: killed by signal SIGSEGV (Segmentation fault)",
            "too_slow": "Timeout: killed: took longer than its timeout of 500 ms",
            "too_big": "MemoryLimit: killed: used more than 300 MB",
        }
        assert beamtime.value(1, "after") == 7
        # Only what might have been somebody else's doing is tried once more.
        names = ("first", "exits", "crashes", "too_slow", "too_big", "after")
        assert {name: witness.calls(0)[name] for name in names} == dict.fromkeys(names, 1)
        assert witness.calls(0)["kills_itself"] == 2

        row = witness.wait_until_done(f"{job}-cluster")
        assert row["state"] == "finished"
        assert beamtime.value(1, "after_costly") == 9
        assert witness.calls(0)["first"] == witness.calls(0)["costly"] == 1
        with h5py.File(beamtime.run_file(1)) as file:
            assert file["after_costly/data"][()] == 9
            assert set(file[".errors"]) == set(errors)
        assert not [line for line in witness.processes().values() if line.startswith("sleep")]
        daemon.terminate()
        assert daemon.wait(20) == 0
        wait_until(lambda: not witness.processes())
