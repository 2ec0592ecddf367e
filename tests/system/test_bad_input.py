"""Bad input of every kind is a clear message on the row or in the log, and the next run is done."""

import hashlib
import json
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import zmq
from beamtime import RUNTABLE, Beamtime
from helpers import wait_until
from witness import HELD_UP, PRELUDE, Witness, marked

from daemon.control import Endpoint
from daemon.lock import FolderLock

pytestmark = pytest.mark.system

READING = (
    PRELUDE
    + """
@Variable(title="Trains")
def trains(run):
    return len(run.train_ids)

@Variable(title="Held up")
def held_up(run, number: "meta#run_number"):
    call(number, "held_up")
    if number == 4:
        wait_for("go-4")
    return number

@Variable(title="Read late")
def read_late(run, number: "meta#run_number", held_up: "var#held_up"):
    return float(run["SPB_XTD9_XGM/DOOCS/MAIN", "beamPosition.ixPos"].ndarray().sum())
"""
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, example_proposal: Path) -> Iterator[Witness]:
    """A folder with a daemon, which was there before the proposal's raw/ and an empty run."""
    beamtime = Beamtime(tmp_path_factory.mktemp("bad"), example_proposal)
    with marked(beamtime) as witness:
        beamtime.init(READING)
        (beamtime.path / "raw").rmdir()
        witness.served()
        wait_until(lambda: f"{beamtime.path / 'raw'}" in beamtime.log())
        (beamtime.path / "raw/r0090").mkdir(parents=True)
        yield witness
        assert witness.served().poll() is None, "the daemon has ended meanwhile"


def next_run_is_done(witness: Witness, run: int) -> None:
    """Let `run` arrive whole, and wait until its row is filled."""
    witness.beamtime.arrive(run)
    wait_until(lambda: witness.beamtime.value(run, "trains") == 64)


def row_says(witness: Witness, run: int) -> str:
    return str(wait_until(lambda: witness.beamtime.value(run, "processing_error")))


def test_raw_appears_later(shared: Witness) -> None:
    assert "raw: No such file or directory; waiting for it" in shared.beamtime.log()
    next_run_is_done(shared, 1)


def test_a_folder_that_is_no_run(shared: Witness) -> None:
    (shared.beamtime.path / "raw/notes").mkdir()
    (shared.beamtime.path / "raw/r12x").mkdir()
    wait_until(lambda: "raw/notes is left alone: not the name of a run" in shared.beamtime.log())
    wait_until(lambda: "raw/r12x is left alone" in shared.beamtime.log())
    next_run_is_done(shared, 2)


def test_a_truncated_file(shared: Witness) -> None:
    arriving = shared.beamtime.path / "r0003"
    shutil.copytree(shared.beamtime.example / "raw/r0001", arriving)
    file = sorted(arriving.iterdir())[0]
    with file.open("r+b") as whole:
        whole.truncate(file.stat().st_size // 2)
    arriving.rename(shared.beamtime.path / "raw/r0003")
    assert file.name in row_says(shared, 3)
    (job,) = wait_until(lambda: [j for j in shared.beamtime.jobs("failed") if j[1] == 3])
    assert file.name in job[5]
    assert shared.beamtime.rows("SELECT start_time FROM run_info WHERE run = 3") != [(None,)]
    assert shared.beamtime.run_file(3).exists()
    # When it is copied anew, all is well.
    shutil.rmtree(shared.beamtime.path / "raw/r0003")
    next_run_is_done(shared, 3)
    assert shared.beamtime.value(3, "processing_error") is None


def test_a_run_that_vanishes_while_it_is_read(shared: Witness) -> None:
    folder = shared.beamtime.arrive(4)
    shared.wait_for_call(4, "held_up")
    shutil.rmtree(folder)
    shared.release(4)
    job = shared.job(4)
    assert shared.wait_until_done(job)["state"] == "finished"
    # What is open can be read to its end, what is not is the variable's error.
    errors = shared.errors(4)
    assert errors.keys() <= {"read_late"}
    assert shared.beamtime.value(4, "read_late") is not None or errors
    next_run_is_done(shared, 5)


def test_a_run_that_is_not_there(shared: Witness) -> None:
    shared.beamtime.run("notify", "--run", 66, "--data", "raw")
    assert "raw/r0066" in row_says(shared, 66)
    next_run_is_done(shared, 6)


def test_messages_over_the_socket(shared: Witness) -> None:
    beamtime = shared.beamtime
    endpoint = Endpoint.read(beamtime.folder)
    assert endpoint is not None
    shutil.copytree(beamtime.example / "raw/r0001", beamtime.path / "r0007")
    beamtime.set(settle_seconds=3600)
    (beamtime.path / "r0007").rename(beamtime.path / "raw/r0007")
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.CURVE_SERVERKEY, endpoint.server_public.encode())
        socket.setsockopt(zmq.CURVE_PUBLICKEY, endpoint.client_public.encode())
        socket.setsockopt(zmq.CURVE_SECRETKEY, endpoint.client_secret.encode())
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, 20_000)
        socket.connect(endpoint.address)

        def ask(message: bytes) -> dict[str, object]:
            socket.send(message)
            answer: dict[str, object] = json.loads(socket.recv())
            return answer

        migrated = {"event": "migration_complete", "proposal": "1234", "run": "7"}
        assert ask(json.dumps(migrated).encode())["ok"] is True
        wait_until(lambda: beamtime.value(7, "trains") == 64)
        for garbage in (b"\xff\xfe\0garbage", b"[1, 2", b'{"event": "coffee", "run": 8}', b""):
            answer = ask(garbage)
            assert answer["ok"] is False
            assert "dead letter" in str(answer["error"])
    beamtime.set(settle_seconds=0.2)
    listed = beamtime.run("events").stdout
    assert "coffee" in listed
    assert "garbage" in listed
    next_run_is_done(shared, 8)


def test_an_empty_run(shared: Witness) -> None:
    wait_until(lambda: "raw/r0090 has no files" in shared.beamtime.log())
    next_run_is_done(shared, 9)


BROKEN = {
    21: ("import os\nos._exit(3)\n", "exit code 3"),
    22: ("\nimport sys\nsys.exit('enough')\n", "line 3: the file ends the process"),
    23: ("x = 1\ndef f(:\n", "line 2:"),
    24: ("import ctypes\nctypes.string_at(0)\n", "Segmentation fault"),
    25: (None, "context.py"),
}


def test_context_files_that_cannot_be_executed(shared: Witness) -> None:
    beamtime = shared.beamtime
    for run, (text, said) in BROKEN.items():
        if text is None:
            (beamtime.folder / "context.py").unlink()
        else:
            beamtime.write_context(text)
        beamtime.arrive(run)
        wait_until(lambda run=run, said=said: said in row_says(shared, run))  # type: ignore[misc]
        assert said in beamtime.log(), run
        assert said in beamtime.run("status").stdout, run
        assert beamtime.value(run, "trains") is None
    assert not [job for job in beamtime.jobs("finished", "failed") if job[1] in BROKEN]
    beamtime.write_context(READING)
    for run in BROKEN:
        wait_until(lambda run=run: beamtime.value(run, "trains") == 64)  # type: ignore[misc]
        wait_until(lambda run=run: beamtime.value(run, "processing_error") is None)  # type: ignore[misc]
    assert "jobs start again" in beamtime.log()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def spoil_bytes(path: Path) -> None:
    path.write_bytes(b"no database at all\n" * 100)


def spoil_kind(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE shopping(item, price)")
        database.commit()


def spoil_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE time_comments")
        database.commit()


def test_databases_that_are_not_ours_are_refused_and_left_alone(
    tmp_path: Path, example_proposal: Path
) -> None:
    beamtime = Beamtime(tmp_path, example_proposal)
    beamtime.init(READING)
    path = beamtime.folder / "runs.sqlite"
    reasons = {
        spoil_table: "it has no table time_comments",
        spoil_kind: "it has no table",
        spoil_bytes: "it is no SQLite database",
    }
    for spoil, reason in reasons.items():
        spoil(path)
        before = digest(path)
        for command in (("listen",), ("db-config", "local-jobs", 2), ("proposal", 77)):
            refused = beamtime.run(*command, check=False)
            assert refused.returncode == 1, command
            assert reason in refused.stderr, command
            assert "Traceback" not in refused.stderr, command
        assert digest(path) == before
    assert reason in beamtime.log()


def holder_of(folder: Path) -> tuple[str, int] | None:
    holder = FolderLock(folder).holder()
    return None if holder is None else (holder.role, holder.pid)


def test_a_daemon_takes_over_from_a_command(tmp_path: Path, example_proposal: Path) -> None:
    beamtime = Beamtime(tmp_path, example_proposal)
    with marked(beamtime) as witness:
        beamtime.init(HELD_UP, local_jobs=1)
        command = subprocess.Popen(
            [*RUNTABLE, "reprocess", "1-3", "--mock"],
            cwd=beamtime.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        witness.wait_for_call(1, "slow")
        second = subprocess.Popen(
            [*RUNTABLE, "listen"], cwd=beamtime.folder, stderr=subprocess.DEVNULL
        )
        wait_until(lambda: "waiting for a command" in beamtime.log())
        wait_until(lambda: holder_of(beamtime.folder) == ("daemon", second.pid))
        witness.release(1)
        witness.wait_for_call(2, "slow")
        witness.release(2)
        witness.release(3)
        said, _ = command.communicate(timeout=60)
        assert command.returncode == 0, said
        assert "Processed 3 of 3 runs" in said
        assert second.poll() is None
        assert [job[3] for job in beamtime.jobs()] == ["finished"] * 3
        for run in (1, 2, 3):
            assert set(witness.calls(run).values()) == {1}, run
        assert str(second.pid) in beamtime.run("status").stdout
        second.send_signal(signal.SIGINT)
        assert second.wait(20) == 0
        wait_until(lambda: not witness.processes())
