"""What is submitted from outside is taken in once and whole; what is no job stops nothing."""

import asyncio
import json
import os
import shutil
import sqlite3
from contextlib import closing

import numpy as np
import plotly.graph_objects as go
import pytest

from ctxlib import Cell, submit
from ctxlib.files import RunFile
from ctxlib.journal import JournalWriter, file_name
from daemon.jobs import submitted
from daemon.jobs.changes import UnknownJob
from daemon.jobs.states import State
from daemon.jobs.submission_check import check
from daemon.service import Service


class Bench:
    """A database folder whose service can be ended and started again."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "context.py").write_text("")

    async def start(self):
        await self.open()
        await self.service.start_work()

    async def open(self):
        self.service = Service(self.folder)
        await self.service.open(1234)

    async def stop(self):
        await self.service.close()

    def submit(self, run=7, **values):
        values = values or {"peak": Cell(np.arange(50.0), units="eV"), "n": 3}
        errors = {"fit": ValueError("no peak")}
        return submit(
            1234, run, values, provenance="fitting", errors=errors, damnit_dir=self.folder
        )

    async def adopt(self, job_id):
        """Do the first half of what the daemon does."""
        work, _ = check(self.folder / "submitted" / job_id, 1234)
        return await self.service.queue.adopt(work, job_id, "submitted by a test")

    def rows(self, query, *values):
        path = self.folder / "runs.sqlite"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return database.execute(query, values).fetchall()

    def cells(self, run=7):
        query = "SELECT name, value, provenance, attributes FROM run_variables WHERE run = ?"
        return {name: rest for name, *rest in self.rows(query, run)}

    async def settled(self, job_id):
        for _ in range(2000):
            try:
                job = await self.service.queue.get(job_id)
                if job.settled:
                    return job
            except UnknownJob:
                pass  # not taken in yet
            await asyncio.sleep(0.01)
        raise AssertionError(f"{job_id} has not settled")

    async def letters(self, number):
        for _ in range(2000):
            letters = await self.service.inbox.dead_letters()
            if len(letters) >= number:
                return letters
            await asyncio.sleep(0.01)
        raise AssertionError(f"there are {letters}")

    def waiting(self):
        return sorted(path.name for path in (self.folder / "submitted").iterdir())

    def check_all(self, run=7):
        """Everything that `submit` gave is where it belongs."""
        cells = self.cells(run)
        assert {name: cell[1] for name, cell in cells.items()} == dict.fromkeys(
            ("peak", "n", "fit"), "fitting"
        )
        assert cells["n"][0] == 3
        assert json.loads(cells["peak"][2]) == {"units": "eV"}
        assert json.loads(cells["fit"][2]) == {"error": "no peak", "error_cls": "ValueError"}
        with RunFile(self.folder / "extracted_data" / f"p1234_r{run}.h5") as file:
            np.testing.assert_array_equal(file.read("peak"), np.arange(50.0))
            assert file.read("n") == 3
            assert file.error("fit") == ("ValueError", "no peak")
            assert file.origin("n")["provenance"] == "fitting"


@pytest.fixture
async def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(submitted, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(submitted, "COPY_SECONDS", 0.0)
    bench = Bench(tmp_path)
    await bench.start()
    yield bench
    await bench.stop()


async def test_it_becomes_a_row_and_a_run_file(bench):
    job_id = bench.submit()
    job = await bench.settled(job_id)
    assert (job.state, job.source, job.run) == (State.FINISHED, "submitted", 7)
    bench.check_all()
    assert bench.waiting() == []
    ((start,),) = bench.rows("SELECT start_time FROM run_info WHERE run = 7")
    assert start is not None
    history = await bench.service.queue.history(job_id)
    assert any(line["why"] == "submitted by fitting" for line in history)


async def test_what_waited_while_no_daemon_was_there(bench):
    await bench.stop()
    job_ids = [bench.submit(run) for run in (7, 8)]
    await bench.start()
    for job_id in job_ids:
        assert (await bench.settled(job_id)).state is State.FINISHED
    bench.check_all(7)
    bench.check_all(8)


@pytest.mark.parametrize("listening", [True, False])
async def test_of_one_run_what_was_submitted_last_holds(bench, listening):
    if not listening:
        await bench.stop()
    many = {f"v{i}": np.arange(2000.0) for i in range(40)}
    runs = range(1, 7)
    ids = [bench.submit(run, **values) for run in runs for values in ({**many, "n": 1}, {"n": 2})]
    assert ids == sorted(ids)
    if not listening:
        await bench.start()
    for job_id in ids:
        assert (await bench.settled(job_id)).state is State.FINISHED
    for run in runs:
        assert bench.cells(run)["n"][0] == 2
        with RunFile(bench.folder / "extracted_data" / f"p1234_r{run}.h5") as file:
            assert file.read("n") == 2


async def test_a_daemon_killed_before_it_moved_the_folder(bench):
    await bench.stop()
    job_id = bench.submit()
    await bench.open()
    await bench.adopt(job_id)
    await bench.stop()
    await bench.start()
    assert (await bench.settled(job_id)).state is State.FINISHED
    bench.check_all()


async def test_a_daemon_killed_after_it_moved_the_folder(bench):
    await bench.stop()
    job_id = bench.submit()
    await bench.open()
    await bench.adopt(job_id)
    jobs = bench.folder / "jobs"
    jobs.mkdir(exist_ok=True)
    (bench.folder / "submitted" / job_id).rename(jobs / job_id)
    await bench.stop()
    await bench.start()
    assert (await bench.settled(job_id)).state is State.FINISHED
    bench.check_all()


async def test_the_host_was_booted_since(bench):
    """What was submitted was on disk before: it is not computed again."""
    await bench.stop()
    job_id = bench.submit()
    claim = bench.folder / "submitted" / job_id / "1" / "claim"
    claim.write_text(json.dumps({**json.loads(claim.read_text()), "boot_id": "an earlier one"}))
    await bench.start()
    assert (await bench.settled(job_id)).reason == ""
    bench.check_all()


async def test_the_same_one_twice_is_one(bench):
    await bench.stop()
    job_id = bench.submit()
    copy = bench.folder / "copy"
    shutil.copytree(bench.folder / "submitted" / job_id, copy)
    await bench.start()
    await bench.settled(job_id)
    cells = bench.rows("SELECT * FROM run_variables")
    copy.rename(bench.folder / "submitted" / job_id)
    for _ in range(2000):
        if not bench.waiting():
            break
        await asyncio.sleep(0.01)
    assert bench.waiting() == []
    assert bench.rows("SELECT * FROM run_variables") == cells
    assert await bench.service.inbox.dead_letters() == []
    bench.check_all()


async def test_a_folder_that_vanished_is_not_computed_by_the_context(bench):
    await bench.stop()
    job_id = bench.submit()
    await bench.open()
    await bench.adopt(job_id)
    shutil.rmtree(bench.folder / "submitted" / job_id)
    await bench.stop()
    await bench.start()
    job = await bench.settled(job_id)
    assert job.state is State.FAILED
    assert "is gone" in job.reason
    assert not (bench.folder / "jobs" / job_id).exists()


async def test_a_fragment_that_broke_is_said(bench):
    await bench.stop()
    job_id = bench.submit()
    (bench.folder / "submitted" / job_id / "1/fragments/peak.h5").write_bytes(b"no HDF5")
    await bench.start()
    job = await bench.settled(job_id)
    assert "peak cannot be read; submit it again" in job.reason
    with RunFile(bench.folder / "extracted_data" / "p1234_r7.h5") as file:
        assert file.read("n") == 3


async def test_titles_of_the_context_stay(bench):
    describe = {"name": "n", "title": "Number", "description": "d", "tags": ["t"]}
    await bench.service.table.register([describe])
    await bench.settled(bench.submit())
    assert bench.rows("SELECT title FROM variables WHERE name = 'n'") == [("Number",)]


async def test_a_figure_gets_a_row_too(bench):
    job_id = bench.submit(figure=go.Figure(go.Scatter(y=[1, 2])))
    assert (await bench.settled(job_id)).state is State.FINISHED
    assert bench.cells()["figure"][0].startswith(b"\x89PNG")


def garbage_file(folder):
    (folder / "readme.txt").write_text("hello")


def garbage_folder(folder):
    (folder / "20260101-000000-abcdef").mkdir()


def garbage_json(folder):
    (folder / "20260101-000000-abcdef").mkdir()
    (folder / "20260101-000000-abcdef/job.json").write_bytes(b"\xff{")


def garbage_link(folder):
    (folder / "20260101-000000-abcdef").symlink_to("/")


def changed(**fields):
    def change(folder):
        (job,) = folder.iterdir()
        request = json.loads((job / "job.json").read_text())
        (job / "job.json").write_text(json.dumps(request | fields))

    return change


def line(kind, **fields):
    def add(folder):
        (job,) = folder.iterdir()
        writer = JournalWriter(job / "1" / file_name(1))
        writer.write(kind, **fields)
        writer.close()

    return add


def torn(folder):
    (job,) = folder.iterdir()
    with (job / "1" / file_name(1)).open("ab") as file:
        file.write(b'{"kind": "fini\n')


def without(path):
    def remove(folder):
        (job,) = folder.iterdir()
        (job / path).unlink()

    return remove


def linked_fragment(folder):
    (job,) = folder.iterdir()
    (job / "1/fragments/peak.h5").unlink()
    (job / "1/fragments/peak.h5").symlink_to("/etc/passwd")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (garbage_file, "no folder"),
        (garbage_folder, "no job.json"),
        (garbage_json, "no JSON"),
        (garbage_link, "no folder"),
        (changed(id="../x"), "no id"),
        (changed(proposal=99), "proposal 99"),
        (changed(run="7"), "run is '7'"),
        (changed(run=True), "run is True"),
        (changed(variables=["n", "start_time"]), "start_time"),
        (changed(variables=["n"]), "exactly the variables"),
        (changed(variables=3), "no list"),
        (changed(provenance=None), "provenance"),
        (line("plan", variables=[], order=[], cluster=[], problems=[]), "kind plan"),
        (line("finished", variable="n"), "exactly the variables"),
        (torn, "1 of 6 lines"),
        (without("1/journal.0.jsonl"), "finished"),
        (without("1/journal.1.jsonl"), "exactly the variables"),
        (without("1/fragments/peak.h5"), "'peak.h5' of peak is not there"),
        (linked_fragment, "neither a folder nor a plain file"),
    ],
)
async def test_garbage_is_a_dead_letter(bench, spoil, why):
    await bench.stop()
    job_id = bench.submit()
    place = bench.folder / "submitted"
    if spoil.__name__.startswith("garbage"):
        shutil.rmtree(place / job_id)
    spoil(place)
    await bench.start()
    (letter,) = await bench.letters(1)
    assert why in letter["error"]
    assert letter["source"] == "submitted"
    # Others are taken in as if nothing were there, and nothing is told twice.
    assert (await bench.settled(bench.submit(8))).state is State.FINISHED
    bench.check_all(8)
    assert len(await bench.service.inbox.dead_letters()) == 1
    assert bench.waiting() == [".refused"]
    assert len(list((place / ".refused").iterdir())) == 1
    assert bench.cells(7) == {}


async def test_a_folder_that_is_being_copied_is_waited_for(bench, monkeypatch):
    await bench.stop()
    monkeypatch.setattr(submitted, "COPY_SECONDS", 60.0)
    job_id = bench.submit()
    place = bench.folder / "submitted" / job_id
    (place / "job.json").rename(bench.folder / "later.json")
    await bench.start()
    await asyncio.sleep(0.1)
    (bench.folder / "later.json").rename(place / "job.json")
    assert (await bench.settled(job_id)).state is State.FINISHED
    assert await bench.service.inbox.dead_letters() == []


async def test_only_old_leftovers_of_a_killed_submission_go(bench):
    await bench.stop()
    place = bench.folder / "submitted"
    for name in (".20260101-000000-aaaaaa", ".20260101-000000-bbbbbb"):
        (place / name / "1").mkdir(parents=True)
    os.utime(place / ".20260101-000000-aaaaaa", (1.0, 1.0))
    await bench.start()
    assert bench.waiting() == [".20260101-000000-bbbbbb"]
