"""What `submit` leaves for the daemon: a whole job, or nothing."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ctxlib
from ctxlib import Cell, Skip, files, submission, submit
from ctxlib.errors import UnsavableError
from ctxlib.journal import JournalReader
from ctxlib.known import known_results
from ctxlib.places import NotFoundError

STEPS = ("write_fragment", "_write_error", "_secure", "rename")
"""Where a submission may be interrupted, one after the other."""


@pytest.fixture
def folder(tmp_path):
    """A database folder of proposal 1234 with an editable variable."""
    folder = tmp_path / "amore"
    folder.mkdir()
    with sqlite3.connect(folder / "runs.sqlite") as database:
        database.executescript(
            """
            CREATE TABLE metameta (key PRIMARY KEY NOT NULL, value);
            INSERT INTO metameta VALUES ('data_format_version', 4), ('proposal', 1234);
            CREATE TABLE variables (name, type, title, description, attributes);
            INSERT INTO variables (name, type, title) VALUES ('note', 'string', 'Note');
            """
        )
    database.close()
    return folder


def jobs(folder):
    waiting = folder / "submitted"
    return [path for path in waiting.iterdir() if path.name[0] != "."] if waiting.exists() else []


def send(folder, **more):
    values = {"peak": Cell(np.arange(50.0), summary="max", units="eV"), "group.n": 3, "none": None}
    errors = {"fit": ValueError("no peak"), "dark": Skip("no dark run")}
    arguments = {"provenance": "fitting", "errors": errors, "damnit_dir": folder, **more}
    return submit(1234, 7, values, **arguments)


def test_a_whole_job_is_there(folder):
    job_id = send(folder)
    (job,) = jobs(folder)
    request = json.loads((job / "job.json").read_text())
    assert job.name == job_id == request["id"]
    assert (request["proposal"], request["run"], request["provenance"]) == (1234, 7, "fitting")
    entries = JournalReader(job / "1").read()
    assert [entry.kind for entry in entries] == [
        *("claimed", "finished", "finished", "finished", "failed", "failed", "ended")
    ]
    assert entries[1].fields["origin"]["provenance"] == "fitting"
    assert entries[1].fields["summary"]["value"] == 49.0
    assert entries[1].fields["summary"]["attributes"] == {"units": "eV"}
    known = known_results([job])
    np.testing.assert_array_equal(known.value("peak"), np.arange(50.0))
    assert known.value("group.n") == 3
    assert known.value("none") is None
    assert known.error("fit") == ("ValueError", "no peak")
    assert known.error("dark") == ("Skip", "no dark run")


def test_errors_alone(folder):
    submit(1234, 7, {}, provenance="p", errors={"fit": OSError(2, "gone")}, damnit_dir=folder)
    (job,) = jobs(folder)
    assert known_results([job]).error("fit") == ("FileNotFoundError", "[Errno 2] gone")


def test_the_database_of_the_proposal(folder, monkeypatch):
    root = folder.parent
    place = root / "SPB/202601/p001234/usr/Shared"
    place.mkdir(parents=True)
    folder.rename(place / "amore")
    monkeypatch.setenv("EXTRA_DATA_DATA_ROOT", str(root))
    send(None)
    assert len(jobs(place / "amore")) == 1
    with pytest.raises(NotFoundError, match="99"):
        submit(99, 7, {"a": 1}, provenance="p")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variables": {"start_time": 1}}, "start_time"),
        ({"variables": {"Start_Time": 1}}, "every table"),
        ({"variables": {"a²": 1}}, "use letters"),
        ({"variables": {"../x": 1}}, "use letters"),
        ({"variables": {"": 1}}, "use letters"),
        ({"variables": {"note": "x"}}, "people fill in"),
        ({"variables": {"a": 1}, "errors": {"a": ValueError()}}, "a: give a value or an error"),
        ({"variables": {}}, "nothing"),
        ({"provenance": ""}, "provenance"),
        ({"proposal": 99}, "proposal 1234, not of 99"),
    ],
)
def test_what_cannot_be_is_refused(folder, arguments, message):
    usual = {"proposal": 1234, "run": 7, "variables": {"a": 1}, "provenance": "p"}
    with pytest.raises(ValueError, match=message):
        submit(**{**usual, **arguments}, damnit_dir=folder)
    assert jobs(folder) == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"run": -1}, ValueError, "run is -1, which no run can be"),
        ({"run": 2**63}, ValueError, "which no run can be"),
        ({"run": 42.7}, TypeError, "run is 42.7: give a whole number"),
        ({"run": "42"}, TypeError, "run is '42': give a whole number"),
        ({"proposal": "1234"}, TypeError, "proposal is '1234': give a whole number"),
        ({"provenance": 5}, TypeError, "provenance is 5: give a text"),
        ({"provenance": " "}, ValueError, "provenance is empty"),
        ({"errors": {"b": "narrow"}}, TypeError, "the error of b is 'narrow': give an exception"),
        ({"errors": {"b": ValueError}}, TypeError, "the error of b is .*: give an exception"),
        ({"variables": {5: 1}}, TypeError, "5 is no name of a variable: give a text"),
    ],
)
def test_what_is_of_another_kind_is_refused(folder, arguments, error, message):
    usual = {"proposal": 1234, "run": 7, "variables": {"a": 1}, "provenance": "p"}
    with pytest.raises(error, match=message):
        submit(**{**usual, **arguments}, damnit_dir=folder)
    assert jobs(folder) == []


def test_numbers_of_numpy_will_do(folder):
    submit(np.int32(1234), np.int64(7), {"a": 1}, provenance="p", damnit_dir=folder)
    (job,) = jobs(folder)
    request = json.loads((job / "job.json").read_text())
    assert (request["proposal"], request["run"]) == (1234, 7)


def test_a_value_that_cannot_be_saved_leaves_nothing(folder):
    with pytest.raises(UnsavableError, match="odd: object"):
        submit(1234, 7, {"a": 1, "odd": object()}, provenance="p", damnit_dir=folder)
    assert list((folder / "submitted").iterdir()) == []


def test_no_database_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run table"):
        submit(1234, 7, {"a": 1}, provenance="p", damnit_dir=tmp_path)


def test_everyone_of_the_folder_may_move_it(folder):
    folder.chmod(0o770)
    before = os.umask(0o077)
    try:
        send(folder)
    finally:
        os.umask(before)
    (job,) = jobs(folder)
    for path in [job.parent, job, *job.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o770 if path.is_dir() else 0o660), path


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_trouble_on_the_way_leaves_nothing(folder, monkeypatch, step, error):
    def fail(*_, **__):
        raise error

    owner = {"write_fragment": files, "rename": Path}.get(step, submission)
    monkeypatch.setattr(owner, step, fail)
    with pytest.raises(type(error)):
        send(folder)
    assert list((folder / "submitted").iterdir()) == []


KILLED = """
import os, signal, sys
import numpy as np
from ctxlib import submit
left = int(sys.argv[2])

def hook(event, arguments):
    # Each of these changes what is on disk.
    global left
    if event in ("open", "os.mkdir", "os.rename", "os.chmod") and "submitted" in repr(arguments):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
errors = {"fit": ValueError("no peak")}
values = {"peak": np.arange(50.0), "n": 3}
submit(1234, 7, values, provenance="p", errors=errors, damnit_dir=sys.argv[1])
print(left)
"""


def test_killed_at_any_moment_it_leaves_all_or_nothing(folder):
    """Killed before each change of the disk in turn, until it comes to its end."""
    root = Path(ctxlib.__file__).parents[1]
    whole, moment = [], 0
    for moment in range(1, 200):
        command = [sys.executable, "-c", KILLED, str(folder), str(moment)]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
        whole.append(len(jobs(folder)))
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
    assert moment > 10
    assert whole[-1] - whole[-2] in (0, 1)
    assert set(whole[:-2]) == {0}, "it was seen before it was whole"
    for job in jobs(folder):
        assert known_results([job]).value("n") == 3
        np.testing.assert_array_equal(known_results([job]).value("peak"), np.arange(50.0))
        assert known_results([job]).error("fit") == ("ValueError", "no peak")


def test_long_errors_are_shortened(folder):
    submit(1234, 7, {}, provenance="p", errors={"fit": ValueError("x" * 10**6)}, damnit_dir=folder)
    (job,) = jobs(folder)
    (failed,) = [e for e in JournalReader(job / "1").read() if e.kind == "failed"]
    assert len(failed.fields["error"]["message"]) < 11_000
    assert len(failed.fields["error"]["traceback"]) < 51_000
