"""A run arrives and its row fills itself: the daemon as its users meet it."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import pytest
from beamtime import RUNTABLE, Beamtime
from helpers import wait_until

pytestmark = pytest.mark.system

CONTEXT = """
from damnit_ctx import Variable

@Variable(title="Trains")
def trains(run):
    return len(run.train_ids)

@Variable(title="Twice")
def twice(run, n: "var#trains"):
    return 2 * n

@Variable(title="Calibrated", data="proc")
def calibrated(run, n: "var#trains"):
    return n + 0.5

@Variable(title="About")
def about(run, n: "meta#run_number", p: "meta#proposal", path: "meta#proposal_path"):
    return f"{n} {p} {(path / 'raw').is_dir()}"

@Variable(title="Fails")
def fails(run):
    raise ValueError("no such motor")

@Variable(title="After fails")
def after(run, value: "var#fails"):
    return value
"""


@pytest.fixture
def beamtime(tmp_path: Path, example_proposal: Path) -> Iterator[Beamtime]:
    beamtime = Beamtime(tmp_path, example_proposal)
    yield beamtime
    beamtime.close()


def test_raw_then_proc_fill_the_row(beamtime: Beamtime) -> None:
    beamtime.init(CONTEXT)
    beamtime.listen()
    beamtime.arrive(1)
    assert wait_until(lambda: beamtime.value(1, "twice")) == 128
    assert "no such motor" in wait_until(lambda: beamtime.attributes(1, "fails"))
    assert "fails" in wait_until(lambda: beamtime.attributes(1, "after"))
    assert beamtime.value(1, "about") == "1 1234 True"
    assert beamtime.value(1, "calibrated") is None
    beamtime.arrive(1, "proc")
    assert wait_until(lambda: beamtime.value(1, "calibrated")) == 64.5
    beamtime.wait_for_jobs(2)
    with h5py.File(beamtime.run_file(1)) as file:
        assert file["twice/data"][()] == 128
        assert file["calibrated/data"][()] == 64.5
        assert set(file[".errors"]) == {"fails", "after"}
    log = (beamtime.folder / "process_logs/r1-p1234.out").read_text()
    assert "calibrated" in log


def test_a_run_that_pauses_and_grows_is_processed_again_when_whole(beamtime: Beamtime) -> None:
    beamtime.init(CONTEXT, settle_seconds=0.5)
    beamtime.listen()
    folder = beamtime.arrive(2)
    wait_until(lambda: beamtime.jobs("finished"))
    for file in sorted(folder.iterdir())[:1]:
        shutil.copy(file, folder / "RAW-R0002-LATE.tmp")
    wait_until(lambda: len(beamtime.jobs("finished")) == 2)


def test_runs_that_came_while_the_daemon_was_down_are_found_once(beamtime: Beamtime) -> None:
    beamtime.arrive(1)
    beamtime.init(CONTEXT)  # run 1 was there before
    beamtime.arrive(2)
    daemon = beamtime.listen()
    wait_until(lambda: beamtime.value(2, "twice") == 128)
    wait_until(lambda: beamtime.jobs("finished"))
    daemon.terminate()
    daemon.wait(30)
    beamtime.listen()
    beamtime.arrive(3)
    wait_until(lambda: beamtime.value(3, "twice") == 128)
    wait_until(lambda: not beamtime.jobs("queued", "dispatched", "running"))
    assert [job[1] for job in beamtime.jobs()] == [2, 3]


def test_an_edited_context_takes_effect_with_the_next_run(beamtime: Beamtime) -> None:
    beamtime.init(CONTEXT)
    daemon = beamtime.listen()
    beamtime.arrive(1)
    wait_until(lambda: beamtime.value(1, "twice") == 128)
    beamtime.write_context(CONTEXT.replace("2 * n", "3 * n"))
    beamtime.arrive(2)
    wait_until(lambda: beamtime.value(2, "twice") == 192)
    assert daemon.poll() is None


def test_a_broken_context_holds_events_until_it_loads(beamtime: Beamtime) -> None:
    beamtime.init(CONTEXT)
    beamtime.listen()
    beamtime.write_context(CONTEXT + "\nimport no_such_library\n")
    beamtime.arrive(1)
    said = wait_until(lambda: beamtime.value(1, "processing_error"))
    assert "no_such_library" in said
    assert f"line {CONTEXT.count(chr(10)) + 2}:" in said
    assert "no_such_library" in beamtime.log()
    status = beamtime.run("status").stdout
    assert "no_such_library" in status
    assert beamtime.jobs("queued")
    beamtime.write_context(CONTEXT)
    wait_until(lambda: beamtime.value(1, "twice") == 128)
    wait_until(lambda: beamtime.value(1, "processing_error") is None)


def test_notify_stores_the_event_and_garbage_becomes_a_dead_letter(beamtime: Beamtime) -> None:
    beamtime.init(CONTEXT)
    lonely = beamtime.run("notify", "--run", 5, "--data", "raw", check=False)
    assert lonely.returncode == 1
    assert "daemon" in lonely.stderr
    beamtime.arrive(5)
    beamtime.set(settle_seconds=3600)
    beamtime.listen()
    beamtime.run("notify", "--run", 5, "--data", "raw")
    wait_until(lambda: beamtime.value(5, "twice") == 128)
    listed = beamtime.run("events").stdout
    assert "notify" in listed


def test_reprocess_with_and_without_a_daemon(beamtime: Beamtime) -> None:
    beamtime.arrive(1)
    beamtime.arrive(2)
    beamtime.init(CONTEXT)
    alone = beamtime.run("reprocess", "1", "7")
    assert "7" in alone.stderr
    assert beamtime.value(1, "twice") == 128
    assert beamtime.run_file(1).exists()
    beamtime.listen()
    beamtime.run("reprocess", "all", "--var", "twice")
    assert beamtime.value(2, "twice") == 128
    assert beamtime.value(2, "fails") is None


def test_starting_from_scratch_under_a_running_daemon(beamtime: Beamtime) -> None:
    beamtime.arrive(1)
    beamtime.init(CONTEXT)
    beamtime.listen()
    beamtime.run("reprocess", "1")
    (beamtime.folder / "runs.sqlite").unlink()
    shutil.rmtree(beamtime.folder / "extracted_data")
    beamtime.run("proposal", 1234)
    assert beamtime.rows("SELECT * FROM run_variables") == []
    beamtime.run("reprocess", "1")
    assert beamtime.value(1, "twice") == 128
    assert beamtime.run_file(1).exists()


def test_a_second_daemon_by_hand_refuses_and_names_the_first(beamtime: Beamtime) -> None:
    beamtime.init(CONTEXT)
    first = beamtime.listen()
    second = beamtime.run("listen", check=False)
    assert second.returncode == 1
    assert str(first.pid) in second.stderr
    first.kill()
    first.wait()
    beamtime.listen()


def test_foreground_runs_on_the_terminal_of_the_one_who_asked(beamtime: Beamtime) -> None:
    beamtime.arrive(1)
    beamtime.init(
        CONTEXT + "\n@Variable()\ndef says(run):\n    print('hello there')\n    return 1\n"
    )
    alone = beamtime.run("reprocess", "1", "--foreground")
    assert "hello there" in alone.stdout
    beamtime.listen()
    followed = beamtime.run("reprocess", "1", "--foreground", "--var", "says")
    assert "hello there" in followed.stdout
    assert [job[3] for job in beamtime.jobs()] == ["finished", "finished"]


def test_foreground_with_a_broken_context_says_so_and_leaves_nothing(beamtime: Beamtime) -> None:
    beamtime.arrive(1)
    beamtime.init("x = 1\ny = x / 0\n", stop_grace=60)
    for daemon in (False, True):
        if daemon:
            beamtime.listen()
        began = time.monotonic()
        refused = beamtime.run("reprocess", "1", "--foreground", check=False)
        assert refused.returncode == 1
        assert "Traceback" not in refused.stdout + refused.stderr
        assert refused.stderr.count("line 2: ZeroDivisionError") == 1
        assert time.monotonic() - began < 50  # it waits for nothing, `stop_grace` neither
    assert {job[3] for job in beamtime.jobs()} == {"canceled"}
    beamtime.write_context(CONTEXT)
    beamtime.run("reprocess", "1")


def test_a_daemon_that_stops_answers_until_its_jobs_have_ended(beamtime: Beamtime) -> None:
    gate = beamtime.path / "gate"
    beamtime.init(
        "import pathlib, time\nfrom damnit_ctx import Variable\n"
        "@Variable()\ndef waits(run):\n"
        f"    while not pathlib.Path({str(gate)!r}).exists():\n        time.sleep(0.01)\n"
        "    return 1\n",
        stop_grace=60,
    )
    daemon = beamtime.listen()
    command = subprocess.Popen(
        [*RUNTABLE, "reprocess", "1", "--mock", "--in", str(beamtime.folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_until(lambda: beamtime.jobs("running"))
    daemon.terminate()
    wait_until(lambda: "told to stop" in beamtime.log())
    assert "1 running" in beamtime.run("status").stdout
    beamtime.run("notify", "--run", "2", "--data", "raw")
    gate.touch()
    output, _ = command.communicate(timeout=60)
    assert command.returncode == 0, output
    assert daemon.wait(60) == 0
    assert [job[1:4] for job in beamtime.jobs()] == [(1, "all", "finished")]
    beamtime.listen()
    wait_until(lambda: beamtime.jobs("failed"))  # there is no such run, and it was not forgotten


def test_a_command_hands_over_to_a_daemon_and_follows_it(beamtime: Beamtime) -> None:
    gate = beamtime.path / "gate"
    beamtime.init(
        "import pathlib, time\nfrom damnit_ctx import Variable\n"
        "@Variable()\ndef waits(run):\n"
        f"    while not pathlib.Path({str(gate)!r}).exists():\n        time.sleep(0.01)\n"
        "    return 1\n",
        local_jobs=1,
    )
    command = subprocess.Popen(
        [*RUNTABLE, "reprocess", "1-2", "--mock", "--in", str(beamtime.folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_until(lambda: beamtime.folder.joinpath("daemon.sqlite").exists())
    wait_until(lambda: beamtime.jobs("running"))
    daemon = beamtime.start_daemon()
    wait_until(lambda: "waiting for a command" in beamtime.log())
    gate.touch()
    output, _ = command.communicate(timeout=60)
    assert command.returncode == 0, output
    assert [beamtime.value(run, "waits") for run in (1, 2)] == [1, 1]
    assert daemon.poll() is None
    assert [job[4] for job in beamtime.jobs()] == [1, 1]


def test_reprocess_without_a_daemon_refuses_a_context_that_cannot_be_executed(
    beamtime: Beamtime,
) -> None:
    beamtime.init(CONTEXT)
    beamtime.write_context("import no_such_library\n")
    refused = beamtime.run("reprocess", "1-2", "--mock", check=False)
    assert refused.returncode == 1
    assert "line 1: ModuleNotFoundError" in refused.stderr
    assert [job[3] for job in beamtime.jobs()] == ["canceled", "canceled"]
    beamtime.write_context(CONTEXT.replace("len(run.train_ids)", "64"))
    beamtime.run("reprocess", "1", "--mock")
    assert beamtime.value(1, "twice") == 128
