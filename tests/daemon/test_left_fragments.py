"""Files that DAMNIT's jobs left become submitted jobs, once each; what cannot be taken in stays."""

import shutil
import sqlite3
from pathlib import Path

import h5py
import numpy as np
import pytest

from ctxlib.journal import JournalReader
from daemon.jobs.submission_check import check
from daemon.store.left_fragments import NotTakenError, left_fragments, take_in
from daemon.store.table import RunsTable

PICTURE = np.frombuffer(b"\x89PNG\r\n\x1a\nrest", dtype=np.uint8)


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    table = RunsTable(tmp_path / "runs.sqlite", 1234)
    await table.open()
    await table.close()
    (tmp_path / "extracted_data").mkdir()
    return tmp_path


def leave(folder: Path, run: int = 5, part: str = "abc", error: str | None = None) -> Path:
    """A file as DAMNIT 0.4 writes it."""
    path = folder / "extracted_data" / f"p1234_r{run}.{part}.ready.h5"
    with h5py.File(path, "w") as file:
        file.attrs["provenance"] = "notebook"
        for hidden in (".reduced", ".preview", ".errors"):
            file.create_group(hidden)
        file[".reduced/start_time"] = file["start_time/data"] = 1.7e9
        file[".reduced/mean"] = 2.5
        file[".reduced/mean"].attrs.update({"max_diff": 5.0, "summary_method": "mean"})
        file["mean/data"] = np.arange(6.0).reshape(2, 3)
        file["picture/data"] = np.zeros((4, 4, 4), np.uint8)
        file["picture"].attrs["_damnit_objtype"] = "image"
        file[".reduced/picture"] = PICTURE
        if error is not None:
            file[f".errors/{error}"] = "no light"
            file[f".errors/{error}"].attrs["type"] = "Skip"
    return path


async def test_its_results_are_those_of_a_submitted_job(folder: Path) -> None:
    path = leave(folder, error="dark")
    [left] = left_fragments(folder)
    job, began = await take_in(folder, left)
    assert (job, began) == (left.job_id, 1.7e9)
    assert not path.exists()
    submitted = folder / "submitted" / left.job_id
    work, provenance = check(submitted, 1234)
    assert (work.run, provenance) == (5, "notebook")
    told = {
        entry.fields["variable"]: entry
        for entry in JournalReader(submitted / "1").read()
        if "variable" in entry.fields
    }
    assert sorted(told) == ["dark", "mean", "picture"]
    assert told["dark"].fields["error"]["type"] == "Skip"
    assert told["mean"].fields["summary"]["value"] == 2.5
    assert told["mean"].fields["summary"]["method"] == "mean"
    assert told["picture"].fields["objtype"] == "image"
    with h5py.File(submitted / "1" / "fragments" / "left.h5") as file:
        assert file["mean/data"].shape == (2, 3)


async def test_it_is_taken_in_once_whatever_is_killed_in_between(folder: Path) -> None:
    path = leave(folder)
    kept = folder / "kept.h5"
    shutil.copy2(path, kept)
    job, _ = await take_in(folder, left_fragments(folder)[0])
    assert job is not None
    (folder / "jobs").mkdir()
    (folder / "submitted" / job).rename(folder / "jobs" / job)
    kept.rename(path)  # as if the process had been killed before it removed it
    assert await take_in(folder, left_fragments(folder)[0]) == (job, 1.7e9)
    assert not path.exists()
    assert list((folder / "submitted").iterdir()) == []


async def test_names_of_others_stay_where_they_are(folder: Path) -> None:
    leave(folder, part="zzz")
    for name in ("p1234_r5.h5", "p1234_r5.abc.writing.h5", "x.ready.h5", "p1_rx.a.ready.h5"):
        (folder / "extracted_data" / name).touch()
    assert [left.path.name for left in left_fragments(folder)] == ["p1234_r5.zzz.ready.h5"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("run", "every table has such a column"),
        ("a b", "no variable can be called 'a b'"),
        ("remark", "people fill in the variable 'remark'"),
    ],
)
async def test_what_cannot_be_a_variable_is_refused(folder: Path, name: str, words: str) -> None:
    database = sqlite3.connect(folder / "runs.sqlite")
    with database:
        database.execute("INSERT INTO variables (name, type) VALUES ('remark', 'string')")
    database.close()
    path = leave(folder, error=name)
    with pytest.raises(NotTakenError, match=words):
        await take_in(folder, left_fragments(folder)[0])
    assert path.exists()
    assert not (folder / "submitted").exists()
