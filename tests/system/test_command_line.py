"""Commands that stand beside the daemon's everyday work, each with real programs, in one beamtime.

The names, options and exit codes are those that DAMNIT's users know.
"""

import getpass
import re
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from beamtime import RUNTABLE, Beamtime
from helpers import wait_until
from peer import PEER, needs_peer

from ctxlib import RunTable

pytestmark = pytest.mark.system

CONTEXT = """
from damnit_ctx import Variable


@Variable(title="Number")
def number(run, run_number: "meta#run_number", proposal: "meta#proposal"):
    print("computing", run_number, flush=True)
    return f"{proposal}/{run_number}"


@Variable(title="Root")
def root(run, path: "meta#proposal_path"):
    return str(path)
"""


GATED = """
import time
from damnit_ctx import Variable


@Variable(title="Gated")
def gated(run, path: "meta#proposal_path"):
    while not (path / "open").exists():
        time.sleep(0.01)
    return "open"
"""


@pytest.fixture(scope="module")
def beamtime(
    tmp_path_factory: pytest.TempPathFactory, example_proposal: Path
) -> Iterator[Beamtime]:
    beamtime = Beamtime(tmp_path_factory.mktemp("commands"), example_proposal)
    beamtime.init(CONTEXT)
    yield beamtime
    beamtime.close()


@pytest.fixture(scope="module", autouse=True)
def typed(beamtime: Beamtime) -> subprocess.CompletedProcess[str]:
    """Runs 1 and 2 arrive, and are typed in."""
    for run in (1, 2):
        beamtime.arrive(run)
    return subprocess.run(
        [*RUNTABLE, "listen", "--test"],
        input="1\nx\nall\n\n2 raw\n",
        cwd=beamtime.folder,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_typed_runs_are_processed_without_a_daemon(
    beamtime: Beamtime, typed: subprocess.CompletedProcess[str]
) -> None:
    assert (typed.returncode, typed.stdout) == (0, "Processed 2 of 2 runs\n"), typed.stderr
    assert "'x' is not understood: 'x' is no run" in typed.stderr
    assert [beamtime.value(run, "number") for run in (1, 2)] == ["1234/1", "1234/2"]
    assert beamtime.run("listen", "--test", "--daemonize", check=False).returncode == 2


def test_a_copy_gets_an_id_of_its_own(beamtime: Beamtime, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(beamtime.folder, copy)
    said = beamtime.run("new-id", copy).stdout
    ids = [
        beamtime.run("db-config", "db-id", "--in", folder).stdout.strip()
        for folder in (beamtime.folder, copy)
    ]
    assert ids[0] != ids[1]
    assert said == f"The database's id is {ids[1]} (was {ids[0]})\n"


def test_runs_of_another_proposal_join_the_table(beamtime: Beamtime) -> None:
    other = beamtime.path.parent / "p900042"
    shutil.copytree(beamtime.example / "raw" / "r0001", other / "raw" / "r0007")
    done = beamtime.run("reprocess", 7, 8, "--proposal", 900042)
    assert f"Skipped run 8: no data in {other}" in done.stderr
    rows = beamtime.rows(
        "SELECT name, value FROM run_variables WHERE proposal = 900042 AND run = 7 ORDER BY name"
    )
    assert dict(rows) == {"number": "900042/7", "root": str(other)}
    assert RunTable(beamtime.folder)[900042, 7, "number"].read() == "900042/7"
    whole = beamtime.run("reprocess", "all", "--match", "number")
    assert whole.stdout == "Processed 3 of 3 runs\n"
    missing = beamtime.run("reprocess", 7, "--proposal", 900043, check=False)
    assert missing.returncode == 1
    assert "proposal 900043 has no folder, neither beside" in missing.stderr


def test_watching_shows_one_run_after_the_other(beamtime: Beamtime) -> None:
    done = beamtime.run("reprocess", 2, 1, "--watch", "--match", "number")
    printed = re.findall(r"^computing (\d+)$", done.stdout, re.MULTILINE)
    assert printed == ["2", "1"]
    assert done.stdout.endswith("Processed 2 of 2 runs\n")
    mocked = beamtime.run("reprocess", "50-52", "--mock", "--concurrent-jobs", 1)
    assert mocked.stdout == "Processed 3 of 3 runs\n"
    database = sqlite3.connect(beamtime.folder / "daemon.sqlite")
    jobs = database.execute(
        "SELECT id, after FROM jobs WHERE mock = 1 ORDER BY position"
    ).fetchall()
    database.close()
    assert [after for _, after in jobs] == [None, jobs[0][0], jobs[1][0]]


def test_what_could_not_be_combined_is_tried_again_by_hand(beamtime: Beamtime) -> None:
    beamtime.run("reprocess", 1)
    beamtime.run("reprocess", 53, "--mock")
    [(first,), *_] = [job[:1] for job in reversed(beamtime.jobs())]
    query = "UPDATE jobs SET combined = 2, reason = 'its results are not in the run file: x' "
    database = sqlite3.connect(beamtime.folder / "daemon.sqlite")
    with database:
        database.execute(query + "WHERE id = ?", (first,))
        # An earlier job of a run that was computed again since: it must not come back.
        database.execute(query + "WHERE run = 1 AND position = (SELECT min(position) FROM jobs)")
    database.close()
    beamtime.run_file(53).unlink()
    done = beamtime.run("combiner", "now", beamtime.folder, check=False)
    assert done.returncode == 1
    assert done.stdout == "Combined the results of 1 job\n"
    assert "a later job of its run is in the run file" in done.stderr
    with h5py.File(beamtime.run_file(53)) as file:
        assert "number" in file
    assert "combiner now" in beamtime.run("combiner", "run").stdout


SUBMIT = """
import sys
import numpy as np, damnit
damnit.submit(
    1234, 1, {"number": "theirs", "line": np.arange(10.0)},
    errors={"bad": ValueError("too narrow")}, provenance="notebook", damnit_dir=sys.argv[1],
)
"""


def noticed(beamtime: Beamtime) -> int:
    """How many runs the daemon has seen arrive by itself, and processed."""
    query = "SELECT count(*) FROM jobs WHERE source = 'filesystem' AND combined = 1"
    database = sqlite3.connect(f"file:{beamtime.folder / 'daemon.sqlite'}?mode=ro", uri=True)
    try:
        return int(database.execute(query).fetchone()[0])
    finally:
        database.close()


@pytest.fixture(scope="module")
def daemon(beamtime: Beamtime) -> None:
    """From here on a daemon runs; it has processed what arrived before."""
    beamtime.listen()
    wait_until(lambda: noticed(beamtime) == 2)


@needs_peer
@pytest.mark.usefixtures("daemon")
def test_fragments_that_damnit_left_are_taken_in(beamtime: Beamtime) -> None:
    # It writes the file, and then fails to announce it, as no Kafka is here.
    subprocess.run([PEER, "-c", SUBMIT, beamtime.folder], capture_output=True, timeout=60)
    extracted = beamtime.folder / "extracted_data"
    [left] = extracted.glob("*.ready.h5")
    stranger = left.with_name("p77_r1.abc.ready.h5")
    shutil.copy(left, stranger)
    empty = left.with_name("p1234_r70.abc.ready.h5")
    with h5py.File(empty, "w") as file:
        file[".reduced/start_time"] = 1.7e9
    broken = left.with_name("p1234_r2.abc.ready.h5")
    broken.write_bytes(left.read_bytes()[:1000])
    done = beamtime.run("combiner", "now", beamtime.folder, check=False)
    assert (done.returncode, done.stdout) == (1, "Combined the results of 1 job\n"), done.stderr
    assert f"{stranger}: this is the database of proposal 1234" in done.stderr
    assert f"Left as it is: {broken}: " in done.stderr
    assert sorted(extracted.glob("*.ready.h5")) == sorted([stranger, broken])
    table = RunTable(beamtime.folder)
    assert table[1, "number"].read() == "theirs"
    assert table[1, "root"].read() == str(beamtime.path)
    np.testing.assert_array_equal(table[1, "line"].read(), np.arange(10.0))
    assert "too narrow" in beamtime.attributes(1, "bad")
    found = beamtime.rows("SELECT DISTINCT provenance FROM run_variables WHERE name = 'line'")
    assert found == [("notebook",)]
    assert beamtime.rows("SELECT start_time FROM run_info WHERE run = 70") == [(1.7e9,)]
    for path in (stranger, broken):
        path.unlink()


def test_the_log_of_a_run_has_a_header_and_times(beamtime: Beamtime) -> None:
    log = (beamtime.folder / "process_logs" / "r2-p1234.out").read_text()
    first, *_ = log.splitlines()
    where = rf"process \d+ of {getpass.getuser()} on {socket.gethostname()}"
    assert re.search(rf"job \S+, attempt 1: proposal 1234, run 2, raw data; {where}$", first)
    lines = [re.sub(r"^# \S+ ", "", line) for line in log.splitlines()]
    begun = next(n for n, line in enumerate(lines) if line.startswith("computing 2"))
    assert any(line.startswith("number") for line in lines[begun:]), log
    assert re.search(r"number.* \d+(\.\d+)? ms", log)


@pytest.mark.usefixtures("daemon")
def test_the_row_is_there_before_the_processing(beamtime: Beamtime) -> None:
    beamtime.write_context(GATED)
    beamtime.arrive(60)
    beamtime.run("notify", "--run", 60, "--data", "raw")
    wait_until(lambda: beamtime.rows("SELECT start_time FROM run_info WHERE run = 60"))
    assert beamtime.value(60, "gated") is None
    (beamtime.path / "open").touch()
    wait_until(lambda: beamtime.value(60, "gated"))
    assert beamtime.run_file(60).exists()
