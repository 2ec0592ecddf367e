import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import h5py
import numpy as np
import pytest

from ctxlib import sources
from ctxlib.sources import RunUnavailable, hdf5


def request(proposal_path, data="raw", run=42, **more):
    place = {"proposal": 1234, "proposal_path": str(proposal_path), "run_pattern": "{data}/{run}"}
    return {**place, "run": run, "data": data, "mock": False, "source": "hdf5", **more}


def opened(proposal_path, data="raw"):
    return sources.open_run(request(proposal_path, data))


def write(path, mtime=2e9, **datasets):
    """Make an HDF5 file of datasets, named with __ for /."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file[name.replace("__", "/")] = value
    os.utime(path, (mtime, mtime))
    return path


def open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_folder_in_a_run_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    write(tmp_path / "raw/42/scan.nxs", counts=np.arange(5))
    closed = tmp_path / "raw/42/deeper"
    closed.mkdir()
    scan = os.scandir

    def refuse(path):  # the superuser, who may run the tests, is never refused
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(RunUnavailable, match=r"deeper cannot be read by \S+: Permission denied"):
        opened(tmp_path)


def test_datasets_are_found_in_whichever_file_has_them(tmp_path):
    write(tmp_path / "raw/42/scan.nxs", entry__data__counts=np.arange(5), entry__title="Test")
    write(tmp_path / "raw/42/deeper/camera.H5", entry__image=np.ones((2, 3)))
    write(tmp_path / "raw/42/.hidden.h5", entry__no=1)
    (tmp_path / "raw/42/notes.txt").write_text("")
    run = opened(tmp_path).run
    assert run["entry/data/counts"][2:].tolist() == [2, 3, 4]
    assert run["/entry/image"].shape == (2, 3)
    assert list(run["entry/data"]) == ["counts"]
    assert list(run) == ["entry/image", "entry/data/counts", "entry/title"]
    assert "entry/data" in run
    assert "entry/nothing" not in run
    assert [file.name for file in run.files] == ["camera.H5", "scan.nxs"]
    assert repr(run) == "<run of 2 HDF5 files>"
    assert run.file("scan.nxs")["entry/title"][()] == b"Test"
    assert run.file("deeper/camera.H5") is run.file("camera.H5")
    with pytest.raises(KeyError, match=r"'entry/nothing' is in no file of the run: camera.H5, sc"):
        run["entry/nothing"]
    with pytest.raises(KeyError, match=r"no file 'other.h5'; it has camera.H5, scan.nxs"):
        run.file("other.h5")
    with pytest.raises(KeyError, match="no file ''"):
        run.file("")


def test_what_is_in_several_files_is_chosen_by_file(tmp_path):
    for part in (1, 2):
        write(tmp_path / f"raw/42/{part}/scan.h5", data=part)
    run = opened(tmp_path).run
    assert list(run) == ["data"]
    assert "data" in run
    with pytest.raises(KeyError, match=r"'data' is in 1/scan.h5, 2/scan.h5: choose with run.file"):
        run["data"]
    with pytest.raises(KeyError, match=r"'scan.h5' is the name of 1/scan.h5, 2/scan.h5: give fol"):
        run.file("scan.h5")
    assert run.file("2/scan.h5")["data"][()] == 2


def test_proc_data_go_before_raw_data(tmp_path):
    write(tmp_path / "raw/42/scan.h5", data=1, raw_only=1)
    assert sources.available_data(request(tmp_path, "all")) == "raw"
    write(tmp_path / "proc/42/scan.h5", data=2)
    assert sources.available_data(request(tmp_path, "all")) == "all"
    run = opened(tmp_path, "proc").run
    assert (run["data"][()], run["raw_only"][()]) == (2, 1)
    assert run.file("raw/42/scan.h5")["data"][()] == 1
    assert [file.parts[-3] for file in run.files] == ["raw", "proc"]
    assert opened(tmp_path).run["data"][()] == 1


def test_without_data_in_the_pattern_all_is_raw(tmp_path):
    write(tmp_path / "scan_042/a.h5", data=1)
    for data in ("raw", "proc", "all"):
        asked = request(tmp_path, data, run_pattern="scan_{run:03d}")
        assert sources.open_run(asked).run["data"][()] == 1
        assert sources.available_data(asked) == ("raw" if data == "all" else data)


def test_many_files_are_not_all_kept_open(tmp_path):
    for part in range(100):
        write(tmp_path / f"raw/42/{part:03d}.h5", **{f"data{part}": np.arange(3) + part})
    run, before = opened(tmp_path).run, open_files()
    kept = [run[f"data{part}"] for part in range(100)]
    assert open_files() >= before + 100  # what is in use stays open
    assert [int(data[0]) for data in kept] == list(range(100))
    del kept
    assert open_files() < before + 60


def test_reading_does_not_keep_a_writer_out(tmp_path):
    path = write(tmp_path / "raw/42/scan.h5", data=1)
    run = opened(tmp_path).run
    assert run["data"][()] == 1
    code = "import h5py, sys; h5py.File(sys.argv[1], 'r+', locking=True)['more'] = 2"
    subprocess.run([sys.executable, "-c", code, path], check=True)


UTC_NOON = datetime.fromisoformat("2026-07-01T12:00:00+00:00").timestamp()


@pytest.mark.parametrize(
    ("written", "time"),
    [
        ("2026-07-01T12:00:00Z", UTC_NOON),
        ("2026-07-01T14:00:00+02:00", UTC_NOON),
        ("2026-07-01 14:00:00 +0200", UTC_NOON),
        (b"2026-07-01T12:00:00.25Z", UTC_NOON + 0.25),
        ("2026-07-01T12:00:00.123456789Z", UTC_NOON + 0.123456789),
        ("2026-07-01T12:00Z", UTC_NOON),
        (["2026-07-01T12:00:00Z"], UTC_NOON),
        (np.bytes_("2026-07-01T12:00:00Z\n"), UTC_NOON),
        ("2026-07-01T12:00:00", datetime(2026, 7, 1, 12).timestamp()),
    ],
)
def test_a_run_begins_with_its_nexus_time(tmp_path, written, time):
    write(tmp_path / "raw/42/scan.nxs", entry__start_time=written)
    write(tmp_path / "raw/42/later.nxs", entry__start_time="2027-07-01T12:00:00Z")
    assert opened(tmp_path).start_time == pytest.approx(time, abs=1e-4)


@pytest.mark.parametrize(
    "odd",
    ["yesterday", "", 5, [1.0, 2.0], "2026-99-01T12:00:00", b"\xff", ["a", "b"], "0001-01-01"],
)
def test_without_a_time_a_run_begins_with_its_oldest_file(tmp_path, odd):
    write(tmp_path / "raw/42/scan.nxs", entry__start_time=odd, start_time="2026-07-01T12:00:00Z")
    write(tmp_path / "raw/42/first.h5", mtime=1e9)
    assert opened(tmp_path).start_time == 1e9


def test_links_are_followed_and_broken_ones_do_no_harm(tmp_path):
    path = write(tmp_path / "raw/42/master.h5", real__data=[1, 2])
    with h5py.File(path, "r+") as file:
        file["entry"] = h5py.ExternalLink("away.h5", "/entry")
        file["soft"] = h5py.SoftLink("/real")
        file["nowhere"] = h5py.SoftLink("/nothing")
        file["real/loop"] = h5py.SoftLink("/")
        file["real/start_time"] = h5py.ExternalLink("away.h5", "/time")
    run = opened(tmp_path).run
    assert run["soft/data"][()].tolist() == [1, 2]
    assert list(run) == ["real/data"]
    assert "entry/data" not in run
    write(tmp_path / "raw/42/away.h5", entry__data=3, time="2026-07-01T12:00:00Z")
    again = opened(tmp_path)
    assert again.run.file("master.h5")["entry/data"][()] == 3
    assert again.start_time == UTC_NOON


def test_what_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(RunUnavailable, match=r"there is no folder .*/raw/42$"):
        opened(tmp_path)
    (tmp_path / "raw/42").mkdir(parents=True)
    with pytest.raises(RunUnavailable, match=r"raw/42 has no data files \(\*\.h5, \*\.hdf5"):
        opened(tmp_path)
    write(tmp_path / "raw/42/good.h5", mtime=1e9, data=1)
    bad = write(tmp_path / "raw/42/sub/bad.h5", data=np.arange(10_000))
    os.truncate(bad, 3000)
    with pytest.raises(RunUnavailable, match=r"sub/bad\.h5 cannot be read") as caught:
        opened(tmp_path)
    assert caught.value.start_time == 1e9


def test_preloading_loads_h5py():
    hdf5.preload()
