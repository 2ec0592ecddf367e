"""`RunTable`: what it gives, what it says, and what it does with a folder that others write."""

import errno
import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from described import described
from example_results import ARRAY, PLOTLY, VALUES, make_folder, save

from ctxlib import Cell, RunTable, runfile
from ctxlib.files import Result, combine
from ctxlib.journal import JournalWriter, file_name
from ctxlib.places import NotFoundError
from ctxlib.recorder import save_result
from ctxlib.runfile import DataType
from ctxlib.summaries import prepare
from ctxlib.table_file import TableFile


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    folder = tmp_path_factory.mktemp("amore")
    make_folder(folder)
    return folder


@pytest.fixture
def folder(example, tmp_path):
    """A folder of one's own to change."""
    return shutil.copytree(example, tmp_path / "amore")


def change(folder, script):
    with closing(sqlite3.connect(folder / "runs.sqlite")) as database, database:
        database.executescript(script)


class Job:
    """A job under way, as its runner would write it."""

    numbers = itertools.count(1)

    def __init__(self, folder, run=1):
        name = f"20261121-0000{next(self.numbers):02}-abcdef"
        self.attempt = folder / "jobs" / name / "1"
        (self.attempt / "fragments").mkdir(parents=True)
        request = {"id": name, "proposal": 1234, "run": run}
        (self.attempt.parent / "job.json").write_text(json.dumps(request))
        self.journal = JournalWriter(self.attempt / file_name(1))

    def finish(self, name, value):
        saved = save_result(self.attempt, name, prepare(value, log=print), {})
        self.journal.write("finished", variable=name, **saved, origin={})

    def fail(self, name, text):
        error = {"type": "ValueError", "message": text, "traceback": ""}
        self.journal.write("failed", variable=name, error=error)

    def clean(self):
        (self.attempt / "claim").write_text("{}")
        shutil.rmtree(self.attempt / "fragments")


def comparable(value):
    """A value as text, in which NaN is equal to itself; of arrays the dtype says the type."""
    found = described(value)
    if "dtype" in found:
        del found["type"]
    return str(found)


# What it gives


def test_every_kind_of_access(example):
    table = RunTable(example)
    assert table.proposal == 1234
    assert table.runs() == [1, 2]
    for variable in (
        table[1]["array"],
        table[1, "array"],
        table[1234, 1, "array"],
        table[1234, 1]["array"],
        table[np.int64(1), "Title of array"],
    ):
        assert (variable.proposal, variable.run) == (1234, 1)
        assert (variable.name, variable.title) == ("array", "Title of array")
        assert variable.file == example / "extracted_data" / "p1234_r1.h5" == table[1].file
        assert variable.units == "mJ"
        assert variable.type_hint() is DataType.DataArray
        xr.testing.assert_identical(variable.read(), ARRAY)
    assert repr(table[1, "array"]) == "<VariableData for 'array' in p1234, r1>"
    assert repr(table) == f"<RunTable of p1234 in {example}>"
    assert "with 39 variables" in repr(table[1])


def test_completion_and_what_a_mapping_can(example):
    variables = RunTable(example)[1]
    assert variables._ipython_key_completions_() == variables.keys() == list(variables)
    assert len(variables) == len(variables.titles()) == 39
    assert "array" in variables
    assert "Title of array" in variables
    assert "nonsense" not in variables
    assert variables.titles() == sorted(variables.titles())


def test_a_proposal_by_its_number(example, tmp_path, monkeypatch):
    place = tmp_path / "SPB/202601/p001234/usr/Shared"
    place.mkdir(parents=True)
    (place / "amore").symlink_to(example)
    monkeypatch.setenv("EXTRA_DATA_DATA_ROOT", str(tmp_path))
    assert RunTable(1234).runs() == RunTable("p1234").runs() == [1, 2]
    (tmp_path / "1234").mkdir()
    monkeypatch.chdir(tmp_path)  # a number is no folder
    assert RunTable(np.int64(1234)).runs() == RunTable(1234).runs() == [1, 2]
    with pytest.raises(NotFoundError, match="proposal 99"):
        RunTable(99)


@pytest.mark.parametrize(
    ("key", "kind", "words"),
    [
        (9, KeyError, "run 9 of proposal 1234"),
        ((99, 1), KeyError, "run 1 of proposal 99"),
        ((1, "numbr"), KeyError, "did you mean 'number'"),
        ((1, "failed"), KeyError, "ValueError: no such motor"),
        ((1, "Title of failed"), KeyError, "ValueError: no such motor"),
        ((1, "skipped"), KeyError, "Skip: not today"),
        ((1, "nothing"), KeyError, "not been computed, or returned nothing"),
        ("array", TypeError, "names no run"),
        (1.5, TypeError, "names no run"),
        ((1, 2, 3), TypeError, "names no run"),
        ((), TypeError, "names no run"),
    ],
)
def test_what_there_is_not_is_said(example, key, kind, words):
    with pytest.raises(kind, match=words):
        RunTable(example)[key]


def test_one_title_of_two_is_not_guessed(folder):
    change(folder, "UPDATE variables SET title = 'Same' WHERE name IN ('number', 'real')")
    with pytest.raises(KeyError, match="number and real have the title 'Same'"):
        RunTable(folder)[1, "Same"]


def test_no_table_and_another_format_are_said(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match=r"no run table in .*give the database folder"):
        RunTable(tmp_path / "nowhere")
    change(folder, "UPDATE metameta SET value = 0 WHERE key = 'data_format_version'")
    with pytest.raises(ValueError, match="format version 0"):
        RunTable(folder)


def test_plotly_figures(example):
    variable = RunTable(example)[1, "plotly"]
    assert variable.read() == variable.preview_data() == variable.preview() == PLOTLY
    text = variable.read(deserialize_plotly=False)
    assert variable.preview_data(deserialize_plotly=False) == text
    assert json.loads(text)["data"]


@pytest.mark.parametrize("name", ["line", "image", "array", "array_image", "figure", "cell_figure"])
def test_previews_are_drawn(example, name):
    import matplotlib.pyplot as plt

    try:
        assert RunTable(example)[1, name].preview() is not None
    finally:
        plt.close("all")


@pytest.mark.parametrize("name", ["number", "text", "dataset", "moment", "texts"])
def test_nothing_to_draw_is_said(example, name):
    with pytest.raises(ValueError, match=f"{name} of run 1"):
        RunTable(example)[1, name].preview()


def test_what_people_filled_in(folder):
    change(
        folder,
        """INSERT INTO variables (name, type, title) VALUES ('note', 'string', 'My note');
        INSERT INTO run_variables (proposal, run, name, version, value) VALUES
            (1234, 2, 'note', 1, 'dark'), (1234, 2, 'comment', 1, 'no beam');""",
    )
    (folder / "extracted_data/p1234_r2.h5").unlink()
    table = RunTable(folder)
    assert table[2].keys() == ["comment", "note"]
    assert table[2].titles() == ["Comment", "My note"]
    note = table[2, "My note"]
    assert note.read() == note.summary() == table[2, "note"].read() == "dark"
    assert note.type_hint() is note.preview_data() is note.units is None
    with pytest.raises(KeyError):
        table[1, "note"]


def test_a_summary_without_data(folder):
    job = Job(folder)
    job.finish("words", Cell(None, summary_value="only text"))
    change(
        folder,
        """INSERT INTO run_variables (proposal, run, name, version, value, timestamp) VALUES
            (1234, 1, 'words', 1, 'only text', 4e9), (1234, 2, 'words', 1, 'only text', 4e9);""",
    )
    (folder / "extracted_data/p1234_r2.h5").unlink()
    for run in (1, 2):  # with a run file that has nothing of it, and with none
        variables = RunTable(folder)[run]
        assert "words" in variables
        words = variables["words"]
        assert words.summary() == "only text"
        assert words.type_hint() is words.preview_data() is None
        with pytest.raises(KeyError, match=r"only a summary.*summary\(\) gives it"):
            words.read()
    change(folder, "UPDATE run_variables SET timestamp = 1 WHERE name = 'words'")
    assert "words" not in RunTable(folder)[1]  # the job has come to nothing since
    assert "words" in RunTable(folder)[2]


# The table


def test_the_columns_know_what_is_missing(example):
    frame = RunTable(example).table()
    assert list(frame.columns[:3]) == ["proposal", "run", "start_time"]
    assert list(frame.columns[3:]) == sorted(frame.columns[3:])
    kinds = {name: str(frame[name].dtype) for name in ("number", "real", "text", "run")}
    assert kinds == {"number": "Int64", "real": "Float64", "text": "string", "run": "int64"}
    assert all(frame[name][1] is pd.NA for name in frame.columns[3:])
    assert frame["failed"][0] is pd.NA
    assert frame["complex"][0] == 1 + 2j
    assert frame["real"].mean() == 2.5
    moments = pd.to_datetime([1.6e9 + 1, 1.6e9 + 2], unit="s", utc=True)
    assert frame["start_time"].tolist() == moments.tolist()
    assert str(frame["start_time"].dt.tz) == "Europe/Berlin"
    shown = {name: frame[name][0] for name in ("line", "image", "figure", "plotly")}
    assert shown == {"line": "<sparkline>", **dict.fromkeys(list(shown)[1:], "<thumbnail>")}


def test_titles_as_columns(folder):
    change(folder, "UPDATE variables SET title = NULL WHERE name = 'real'")
    frame = RunTable(folder).table(with_titles=True)
    assert list(frame.columns[:3]) == ["Proposal", "Run", "Timestamp"]
    assert "Title of number" in frame
    assert "real" in frame


def test_numbers_and_texts_in_one_column(folder):
    change(
        folder,
        """INSERT INTO run_variables (proposal, run, name, version, value) VALUES
        (1234, 2, 'number', 1, 'none'), (1234, 2, 'truth', 1, 0.5)""",
    )
    frame = RunTable(folder).table()
    assert frame["number"].tolist() == [3, "none"]
    assert frame["truth"].tolist() == [1.0, 0.5]


def test_an_empty_table(folder):
    change(folder, "DELETE FROM run_info; DELETE FROM run_variables")
    frame = RunTable(folder).table()
    assert len(frame) == 0
    assert str(frame["start_time"].dt.tz) == "Europe/Berlin"


def test_a_broken_view_costs_nothing(folder):
    change(folder, "DROP VIEW runs; CREATE VIEW runs AS SELECT x FROM nowhere")
    assert RunTable(folder).table()["number"][0] == 3


# While jobs are under way


def test_results_of_a_job_under_way(folder):
    job = Job(folder, 2)
    table = RunTable(folder)
    assert table[2].keys() == []
    for name, value in VALUES.items():
        job.finish(name, value[0] if isinstance(value, tuple) else value)
    table_of_file = RunTable(folder)[1]
    assert table[2].keys() == [name for name in table_of_file if name != "start_time"]
    for name in table[2]:
        ours, filed = table[2, name], table_of_file[name]
        assert comparable(ours.read()) == comparable(filed.read()), name
        assert ours.type_hint() is filed.type_hint()
        assert comparable(ours.preview_data()) == comparable(filed.preview_data())


def test_a_job_wins_over_the_file_until_that_is_newer(folder):
    table, job = RunTable(folder), Job(folder)
    job.finish("number", 4)
    job.finish("line", np.arange(3.0))
    job.fail("real", "too dark")
    assert table[1, "number"].read() == 4
    assert table[1, "line"].read().tolist() == [0, 1, 2]
    with pytest.raises(KeyError, match="too dark"):
        table[1, "real"]
    target = folder / "extracted_data/p1234_r1.h5"
    late = {"time": 4e9}
    newer = [save(folder, "number", 5), save(folder, "line", np.arange(2.0))]
    combine(target, [Result(**{**vars(r), "origin": late}) for r in newer[:1]], start_time=None)
    assert table[1, "number"].read() == 5
    assert table[1, "line"].read().tolist() == [0, 1, 2]
    job.clean()
    assert table[1, "line"].read().shape == (1000,)
    assert table[1, "real"].read() == 2.5


def test_what_the_table_says_has_failed_since(folder):
    job = Job(folder)
    job.finish("failed", 1)
    table = RunTable(folder)
    assert table[1, "failed"].read() == 1  # computed again, and not in the table yet
    change(folder, "UPDATE run_variables SET timestamp = 4e9 WHERE name = 'failed'")
    with pytest.raises(KeyError, match="no such motor"):
        table[1, "failed"]


def test_fragments_that_go_while_they_are_read(folder, monkeypatch):
    """The job ends between the look into its journal and the opening of its fragment."""
    job = Job(folder, 2)
    job.finish("line", np.arange(3.0))
    opened, real = [], runfile.open_file

    def open_file(path):
        if path.parent.name == "fragments" and not opened:
            combine(folder / "extracted_data/p1234_r2.h5", [saved], start_time=None)
            job.clean()
        opened.append(path)
        return real(path)

    saved = save(folder, "line", np.arange(3.0))
    monkeypatch.setattr(runfile, "open_file", open_file)
    assert RunTable(folder)[2, "line"].read().tolist() == [0, 1, 2]


def test_other_folders_among_the_jobs(folder):
    for name in ("stray", "20261121-000000-ffffff"):
        (folder / "jobs" / name / "1/fragments").mkdir(parents=True)
    (folder / "jobs/file").write_text("")
    (folder / "jobs/stray/job.json").write_text("[")
    assert RunTable(folder)[2].keys() == []


# Faults


def test_a_stale_file_is_opened_once_more(folder, monkeypatch):
    real, failures = h5py.File, [1]

    def opened(*args, **kwargs):
        if failures:
            failures.pop()
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(*args, **kwargs)

    monkeypatch.setattr(runfile.h5py, "File", opened)
    assert RunTable(folder)[1, "number"].read() == 3
    assert not failures


@pytest.mark.parametrize("times", [1, 2])
def test_a_file_that_becomes_stale_while_it_is_read(folder, monkeypatch, times):
    real, failures = runfile.RunFile.read, [OSError("Can't read (errno = 116)")] * times

    def read(*args, **kwargs):
        if failures:
            raise failures.pop()
        return real(*args, **kwargs)

    variable = RunTable(folder)[1, "number"]
    monkeypatch.setattr(runfile.RunFile, "read", read)
    if times == 1:
        assert variable.read() == 3
    else:
        with pytest.raises(OSError, match="116"):
            variable.read()


def test_a_table_that_becomes_stale(folder, monkeypatch):
    real, failures = TableFile._ask_once, [sqlite3.OperationalError("disk I/O error")]
    table = RunTable(folder)

    def ask_once(*args):
        if failures:
            raise failures.pop()
        return real(*args)

    monkeypatch.setattr(TableFile, "_ask_once", ask_once)
    assert table.runs() == [1, 2]


def test_a_damaged_run_file_is_said(folder):
    (folder / "extracted_data/p1234_r1.h5").write_bytes(b"no HDF5")
    with pytest.raises(OSError, match="signature"):
        RunTable(folder)[1].keys()
    assert RunTable(folder).table()["number"][0] == 3


READ_ONLY = """
import os, sys
from ctxlib import RunTable

def read():
    table = RunTable(sys.argv[1])
    assert table[1, "number"].read() == 3
    assert table.runs() == [1, 2]
    assert table.table()["number"][0] == 3
    assert len(table[1].keys()) == 39

read()  # loads everything: the other user may not read the libraries
os.setuid(65534)
assert not os.access(sys.argv[1], os.W_OK)
read()
"""


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another user needs root: run as root")
def test_a_folder_that_one_may_only_read(folder):
    for path in [folder, *folder.parents]:
        if path.stat().st_uid == os.getuid() and str(path).startswith("/tmp/"):
            path.chmod(0o755)
    before = sorted(folder.rglob("*"))
    command = [sys.executable, "-B", "-c", READ_ONLY, str(folder)]
    root = Path(runfile.__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert sorted(folder.rglob("*")) == before


def test_while_others_write(folder):
    """A writer replaces values and the run file; a reader never sees half of it."""
    stop, target = threading.Event(), folder / "extracted_data/p1234_r1.h5"

    def write():
        for number in itertools.count():
            if stop.is_set():
                return
            change(
                folder,
                f"""UPDATE run_variables SET value = {number} WHERE name = 'number';
                UPDATE run_variables SET value = {number} WHERE name = 'real'""",
            )
            values = {name: np.full(100, float(number)) for name in ("line", "half")}
            combine(target, [save(folder, n, v) for n, v in values.items()], start_time=None)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        table = RunTable(folder)
        for _ in range(20):
            assert table.table()["number"].notna()[0]
            line = table[1, "line"].read()
            assert line.size == 1000 or (line == line[0]).all()
            xr.testing.assert_identical(table[1, "array"].read(), ARRAY)
    finally:
        stop.set()
        writer.join()


def test_a_writer_that_was_killed_in_the_middle(folder):
    """It leaves a journal that has to be rolled back, which a reader that may write does."""
    script = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("PRAGMA cache_size = 1")
database.execute("UPDATE run_variables SET value = zeroblob(100000)")
os._exit(1)
"""
    subprocess.run([sys.executable, "-c", script, str(folder / "runs.sqlite")], check=False)
    assert (folder / "runs.sqlite-journal").stat().st_size > 0
    assert RunTable(folder).table()["number"][0] == 3
    assert RunTable(folder)[1, "number"].summary() == 3


# What it costs to load


def test_pandas_only_for_the_table(example):
    script = f"""
import sys
from ctxlib import RunTable, Variable
early = {{"h5py", "numpy", "xarray", "pandas"}} & set(sys.modules)
assert not early, early
table = RunTable({str(example)!r})
assert table[1, "number"].read() == 3
assert not {{"xarray", "pandas"}} & set(sys.modules), "loaded too early"
"""
    root = Path(runfile.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
