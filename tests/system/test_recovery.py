"""Power cuts, files that vanish, locks, and processes that come back: nothing is lost of a run."""

import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import pytest
from beamtime import Beamtime
from helpers import wait_until
from witness import HELD_UP, Witness, marked

from ctxlib.processes import ATTEMPT

pytestmark = pytest.mark.system

CONTEXT = (
    HELD_UP
    + f"""
@Variable(title="Attempt")
def attempt(run, slow: "var#slow"):
    return int(os.path.basename(os.environ[{ATTEMPT!r}]))
"""
)
NAMES = {"array", "attempt", "first", "last", "slow", "start_time"}


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory, example_proposal: Path) -> Iterator[Witness]:
    """One folder for the tests of this module, each with runs of its own."""
    beamtime = Beamtime(tmp_path_factory.mktemp("recovery"), example_proposal)
    with marked(beamtime) as witness:
        beamtime.init(CONTEXT, stop_grace=0, local_jobs=6)
        yield witness


def begin(witness: Witness, *runs: int) -> list[Path]:
    """Let runs arrive and be held up in `slow`; the folders of their jobs."""
    witness.served()
    for run in runs:
        witness.beamtime.arrive(run)
    for run in runs:
        witness.wait_for_call(run, "slow")
    return [witness.folder / "jobs" / witness.job(run) for run in runs]


def cut_power(witness: Witness, jobs: list[Path]) -> None:
    """Kill everything at once."""
    witness.kill_daemon()
    runners = [witness.runner(job.name) for job in jobs]
    for server in {witness.claimed_by(job.name) for job in jobs}:
        os.kill(server, signal.SIGKILL)
    wait_until(lambda: not {*runners} & {*witness.processes()})


def stop_combiner(witness: Witness) -> int:
    """Have the process that makes run files stand still; its pid."""

    def running() -> int | None:
        found = [p for p, line in witness.processes().items() if "daemon.store.combiner" in line]
        return found[0] if len(found) == 1 else None

    combiner = wait_until(running)
    os.kill(combiner, signal.SIGSTOP)
    return combiner


def check_complete(witness: Witness, run: int, job: str | None = None) -> dict[str, Any]:
    """See that the table and the run file have all of a run; the row of its (only) job."""
    beamtime = witness.beamtime
    witness.release(run)
    row = witness.wait_until_done(job or witness.job(run))
    wait_until(lambda: in_file(witness, run) >= NAMES)
    assert (row["state"], row["combined"], row["reason"]) == ("finished", 1, "")
    witness.history(row["id"])
    assert (beamtime.value(run, "first"), beamtime.value(run, "slow")) == (1, 4950.0)
    assert beamtime.value(run, "last") == 4951.0
    assert witness.errors(run) == {"fails": ("ValueError", "no such motor")}
    ((start_time,),) = beamtime.rows("SELECT start_time FROM run_info WHERE run = ?", run)
    assert start_time is not None
    return row


def in_file(witness: Witness, run: int) -> set[str]:
    """The variables that the run file has data of, all of them whole."""
    with h5py.File(witness.beamtime.run_file(run)) as file:
        assert "array" not in file or file["array/data"][99] == 99.0
        return {name for name in file if not name.startswith(".")}


def test_a_power_cut(witness: Witness) -> None:
    torn, holes, empty = jobs = begin(witness, 1, 2, 3)
    cut_power(witness, jobs)
    journal = torn / "1/journal.1.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    booted = json.loads((holes / "1/claim").read_text()) | {"boot_id": "another"}
    (holes / "1/claim").write_text(json.dumps(booted))
    for fragment in (holes / "1/fragments").iterdir():
        fragment.write_bytes(bytes(fragment.stat().st_size))
    library = [path for path in (witness.folder / "lib").rglob("*") if path.is_file()]
    for path in [*empty.rglob("*"), *library, witness.folder / "control.json"]:
        if path.is_file():
            path.write_bytes(b"")
    (witness.folder / "daemon.lock").write_bytes(bytes(10))
    witness.served()
    for run in (1, 2, 3):
        row = check_complete(witness, run)
        assert (row["attempt"], row["lost"]) == (2, 1)
    once = {"first": 1, "array": 1, "fails": 1, "passing": 2, "slow": 2, "last": 1, "attempt": 0}
    for run, again in ((1, {}), (2, {"array": 2}), (3, {"first": 2, "array": 2, "fails": 2})):
        assert witness.calls(run) == {**{n: c for n, c in once.items() if c}, **again}


def test_results_that_a_power_cut_took_after_the_end(witness: Witness) -> None:
    (job,) = begin(witness, 4)
    combiner = stop_combiner(witness)
    witness.release(4)
    wait_until(lambda: ("finished", 1) in witness.history(job.name))
    journal = job / "1/journal.1.jsonl"
    kept = [line for line in journal.read_text().splitlines() if '"variable":"last"' not in line]
    journal.write_text("\n".join(kept) + "\n")
    os.kill(combiner, signal.SIGKILL)
    witness.wait_until_done(f"{job.name}-again")
    assert witness.calls(4)["last"] == 2
    assert witness.calls(4)["fails"] == 1


def test_job_folders_that_are_deleted(witness: Witness) -> None:
    hanging, ending = begin(witness, 11, 12)
    runner = witness.runner(hanging.name)
    combiner = stop_combiner(witness)
    witness.release(12)
    wait_until(lambda: ("finished", 1) in witness.history(ending.name))
    for job in (hanging, ending):
        shutil.rmtree(job)
    os.kill(combiner, signal.SIGCONT)
    witness.wait_for_call(11, "slow", 2)
    wait_until(lambda: runner not in witness.processes())
    row = check_complete(witness, 11)
    assert (row["attempt"], row["lost"]) == (2, 1)
    check_complete(witness, 12, ending.name)
    (again,) = witness.queue("SELECT state FROM jobs WHERE id = ?", f"{ending.name}-again")
    assert again["state"] == "finished"


def test_a_table_that_is_locked_replaced_and_deleted(witness: Witness) -> None:
    witness.served()
    beamtime, table = witness.beamtime, witness.folder / "runs.sqlite"
    for run in (21, 22):
        witness.release(run)
    with closing(sqlite3.connect(table, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        beamtime.arrive(21)
        witness.wait_for_call(21, "last")
        stored = beamtime.run("notify", "--run", 21, "--data", "proc").stdout
        assert stored.startswith("Stored")
    check_complete(witness, 21)
    with closing(sqlite3.connect(witness.folder / "daemon.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        beamtime.arrive(22)
        assert "r21" in beamtime.run("jobs").stdout or "21" in beamtime.run("jobs").stdout
    wait_until(lambda: [job for job in beamtime.jobs() if job[1] == 22])
    check_complete(witness, 22)
    begin(witness, 23)
    good, bad = witness.folder / "good.sqlite", witness.folder / "bad.sqlite"
    bad.write_bytes(b"no database" * 1000)
    table.rename(good)
    bad.rename(table)
    witness.release(23)
    wait_until(lambda: "runs.sqlite cannot be used" in beamtime.log())
    good.rename(table)
    check_complete(witness, 23)
    begin(witness, 24)
    table.unlink()
    check_complete(witness, 24)
    assert beamtime.rows("SELECT run FROM run_info") == [(24,)]
    beamtime.set(settle_seconds=0.2)


def test_a_queue_that_is_deleted(witness: Witness) -> None:
    (job,) = begin(witness, 26)
    before = len(witness.beamtime.log())
    (witness.folder / "daemon.sqlite").unlink()
    wait_until(lambda: "was deleted or replaced while it was in use" in witness.beamtime.log())
    witness.release(26)
    wait_until(lambda: witness.has_job(job.name), 30)
    row = check_complete(witness, 26, job.name)
    assert (row["attempt"], row["lost"], row["source"]) == (1, 0, "found")
    assert witness.calls(26)["slow"] == 1
    assert "Traceback" not in witness.beamtime.log()[before:]


def test_an_old_attempt_that_comes_back(witness: Witness) -> None:
    """Its host was cut off, and everybody went on without it."""
    (job,) = begin(witness, 31)
    server, runner = witness.claimed_by(job.name), witness.runner(job.name)
    witness.kill_daemon()
    for pid in (server, runner):
        os.kill(pid, signal.SIGSTOP)
    made = json.loads((job / "1/claim").read_text())
    (job / "1/claim").write_text(json.dumps({**made, "boot_id": "another"}))
    witness.served()
    row = check_complete(witness, 31)
    assert (row["attempt"], witness.beamtime.value(31, "attempt")) == (2, 2)
    history = witness.history(job.name)
    for pid in (runner, server):
        os.kill(pid, signal.SIGCONT)
    witness.wait_for_call(31, "last", 2)
    wait_until(lambda: not {runner, server} & {*witness.processes()})
    witness.kill_daemon()
    witness.served()
    assert {**check_complete(witness, 31), "cleaned": 0} == {**row, "cleaned": 0}
    assert witness.history(job.name) == history
    assert witness.beamtime.value(31, "attempt") == 2
    with h5py.File(witness.beamtime.run_file(31)) as file:
        assert file["attempt/data"][()] == 2
    wait_until(lambda: not list(job.glob("*/fragments")))


def test_daemons_that_race_for_the_folder(witness: Witness) -> None:
    beamtime, first = witness.beamtime, witness.served()
    others = [beamtime.start_daemon() for _ in range(2)]
    wait_until(lambda: beamtime.log().count(f"waiting for a daemon on {os.uname().nodename}") >= 2)
    begin(witness, 41)
    first.kill()
    first.wait()
    holder = wait_until(lambda: serving(witness, [other.pid for other in others]))
    check_complete(witness, 41)
    lock = witness.folder / "daemon.lock"
    held = lock.stat().st_ino
    lock.unlink()
    wait_until(lambda: lock.exists() and lock.stat().st_ino != held and lock.read_text())
    assert serving(witness, [holder]) == holder
    for daemon in sorted(others, key=lambda daemon: daemon.pid == holder):
        assert daemon.poll() is None
        daemon.terminate()
        daemon.wait(20)


def serving(witness: Witness, pids: list[int]) -> int | None:
    """That of `pids` which has the folder and answers."""
    try:
        holder = json.loads((witness.folder / "daemon.lock").read_text())["pid"]
        answers = json.loads((witness.folder / "control.json").read_text())["pid"]
    except (OSError, ValueError):
        return None
    return holder if holder == answers and holder in pids else None


def test_the_copy_of_ctxlib_is_deleted_under_the_daemon(witness: Witness) -> None:
    witness.served()
    shutil.rmtree(witness.folder / "lib")
    witness.beamtime.write_context(CONTEXT + "# edited, so that it is loaded anew\n")
    witness.beamtime.arrive(30)
    wait_until(lambda: [job for job in witness.beamtime.jobs() if job[1] == 30])
    check_complete(witness, 30)
    assert "can be executed" in witness.beamtime.run("status").stdout
