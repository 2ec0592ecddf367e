import asyncio
import os
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest
from helpers import wait_until

from ctxlib import processes
from ctxlib.files import RunFile, write_fragment
from ctxlib.journal import JournalWriter
from ctxlib.plain import encode_plain
from ctxlib.summaries import prepare
from daemon.store.combiner import CombineError, Combiner


def make_job(tmp_path, job="j1", **values):
    """A job folder as a runner leaves it: arrays in fragments, the rest in the journal."""
    attempt = tmp_path / "jobs" / job / "1"
    (attempt / "fragments").mkdir(parents=True)
    writer = JournalWriter(attempt / "journal.1.jsonl")
    for name, value in values.items():
        if isinstance(value, Exception):
            error = {"type": type(value).__name__, "message": str(value), "traceback": ""}
            writer.write("failed", variable=name, error=error, duration=0.0)
            continue
        prepared = prepare(value, log=print)
        data = encode_plain(prepared.data)
        fragment = None
        if data is None and prepared.data is not None:
            fragment = f"{name}.h5"
            write_fragment(attempt / "fragments" / fragment, name, prepared, None)
        writer.write(
            "finished",
            variable=name,
            summary=prepared.summary.to_json(),
            data=data,
            fragment=fragment,
            objtype=prepared.objtype,
            origin={"job": job},
        )
    writer.close()
    return attempt.parent


@pytest.fixture
async def combiner():
    combiner = Combiner()
    yield combiner
    await combiner.close()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "extracted_data" / "p1234_r42.h5"


async def test_results_of_a_job_are_in_the_file(combiner, tmp_path, target):
    image = np.arange(12.0).reshape(3, 4)
    job = make_job(tmp_path, number=5, image=image, bad=ValueError("no"), nothing=None)
    combined = await combiner.combine(job, target, 1.7e9)
    assert (combined.moved, combined.lost) == (None, ())
    with RunFile(target) as file:
        assert file.read("number") == 5
        np.testing.assert_array_equal(file.read("image"), image)
        assert file.error("bad") == ("ValueError", "no")
    with h5py.File(target) as file:
        assert file[".reduced/start_time"][()] == 1.7e9
        assert {".reduced", ".preview", ".errors"} <= set(file)
    again = make_job(tmp_path, "j2", number=6, bad=1)
    await combiner.combine(again, target, None)
    with RunFile(target) as file:
        assert (file.read("number"), file.read("bad"), file.error("bad")) == (6, 1, None)
        np.testing.assert_array_equal(file.read("image"), image)


async def test_an_empty_file_is_made_only_where_there_is_none(combiner, target):
    await combiner.publish_empty(target, 5.0)
    before = target.stat()
    with h5py.File(target) as file:
        assert {".reduced", ".preview", ".errors"} <= set(file)
    await combiner.publish_empty(target, 6.0)
    assert target.stat() == before


async def test_one_process_serves_all_requests(combiner, tmp_path, target):
    assert combiner.pid is None
    jobs = [make_job(tmp_path, f"j{number}", **{f"v{number}": number}) for number in range(5)]
    await asyncio.gather(*(combiner.combine(job, target, None) for job in jobs))
    with RunFile(target) as file:
        assert sorted(file.names()) == [f"v{number}" for number in range(5)]
    children = {p.pid for p in processes.everyone() if p.parent == os.getpid()}
    assert combiner.pid in children
    assert (
        "h5py"
        not in subprocess.run(
            [sys.executable, "-c", "import sys, daemon.store.combiner; print(*sys.modules)"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
    )


async def test_a_damaged_fragment_costs_only_its_variable(combiner, tmp_path, target):
    job = make_job(tmp_path, a=np.zeros(5), b=np.ones(5), c=3)
    fragment = job / "1" / "fragments" / "a.h5"
    fragment.write_bytes(fragment.read_bytes()[:500])
    combined = await combiner.combine(job, target, None)
    assert combined.lost == ("a",)
    with RunFile(target) as file:
        assert sorted(file.names()) == ["b", "c"]


async def test_an_unreadable_run_file_is_kept_aside(combiner, tmp_path, target):
    target.parent.mkdir()
    target.write_bytes(b"not HDF5")
    combined = await combiner.combine(make_job(tmp_path, a=1), target, None)
    assert combined.moved.read_bytes() == b"not HDF5"
    with RunFile(target) as file:
        assert file.read("a") == 1


async def test_what_cannot_be_written_is_an_error_in_words(combiner, tmp_path):
    (tmp_path / "file").write_text("in the way")
    target = tmp_path / "file" / "p1_r1.h5"
    with pytest.raises(FileExistsError, match=r"File exists.*p1_r1\.h5"):
        await combiner.combine(make_job(tmp_path, a=1), target, None)
    pid = combiner.pid
    await combiner.combine(None, tmp_path / "other.h5", None)
    assert combiner.pid == pid


async def test_a_process_that_died_is_replaced(combiner, tmp_path, target):
    await combiner.publish_empty(target, None)
    pid = combiner.pid
    os.kill(pid, signal.SIGKILL)
    await combiner.combine(make_job(tmp_path, a=1), target, None)
    assert combiner.pid != pid
    with RunFile(target) as file:
        assert file.read("a") == 1


async def test_a_request_that_kills_it_twice_is_an_error_of_that_request(
    combiner, tmp_path, target, monkeypatch, caplog
):
    trap = tmp_path / "trap"
    trap.mkdir()
    (trap / "sitecustomize.py").write_text(
        "import os, signal\n"
        "import ctxlib.files\n"
        "def combine(target, *_, **__):\n"
        "    os.kill(os.getpid(), signal.SIGSEGV)\n"
        "ctxlib.files.combine = combine\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(trap))
    with pytest.raises(CombineError, match="killed by SIGSEGV, twice"):
        await combiner.combine(make_job(tmp_path, a=1), target, None)
    assert "starting another" in caplog.text
    assert combiner.pid is None
    monkeypatch.delenv("PYTHONPATH")
    await combiner.combine(make_job(tmp_path, "j2", a=1), target, None)


async def test_whoever_gives_up_does_not_leave_the_answer_to_the_next(combiner, tmp_path, target):
    job = make_job(tmp_path, a=1)
    impatient = asyncio.create_task(combiner.combine(job, target, None))
    await asyncio.sleep(0.01)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    combined = await combiner.combine(job, target, None)
    assert combined.lost == ()


async def test_it_ends_when_idle(tmp_path, target):
    combiner = Combiner(idle_seconds=0.05)
    await combiner.publish_empty(target, None)
    await asyncio.to_thread(wait_until, lambda: combiner.pid is None)
    await combiner.combine(make_job(tmp_path, a=1), target, None)
    await combiner.close()


def test_it_dies_with_its_daemon(tmp_path):
    code = (
        "import asyncio, os, signal, sys\n"
        "from pathlib import Path\n"
        "from daemon.store.combiner import Combiner\n"
        "async def main():\n"
        "    combiner = Combiner()\n"
        "    await combiner.combine(None, Path(sys.argv[1]), None)\n"
        "    print(combiner.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run.h5")], capture_output=True, text=True
    )
    assert parent.returncode == -signal.SIGKILL
    pid = int(parent.stdout)
    wait_until(lambda: (found := processes.read(pid)) is None or found.zombie)
