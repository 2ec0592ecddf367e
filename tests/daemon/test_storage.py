"""One contract over every StorageBackend, and what the one over a folder promises beyond it."""

import itertools
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from kill_steps import killed_at
from peer import ask, needs_peer

from ctxlib import Cell, RunTable
from ctxlib.errors import UnsavableError
from ctxlib.summary import Summary
from daemon.lock import FolderLock
from daemon.store.storage import (
    ReportNotFoundError,
    RunMetadata,
    RunNotFoundError,
    StorageBackend,
    StorageBusyError,
    StorageClosedError,
    StorageError,
    StorageNotFoundError,
    StoredResult,
)
from daemon.store.storage_folder import FolderStorage
from daemon.store.storage_memory import MemoryStorage

RUN = (1234, 1)
NOW = 1_700_000_000.0

KINDS = {
    "memory": lambda folder: MemoryStorage(clock=lambda: NOW),
    "folder": lambda folder: FolderStorage(folder / "amore", proposal=1234, clock=lambda: NOW),
}


@pytest.fixture(params=KINDS)
def storage(request, tmp_path):
    with KINDS[request.param](tmp_path) as storage:
        storage.save_run_metadata(RUN, RunMetadata(start_time=50.0))
        yield storage


def same(one, other):
    """Equal, of the same kind and type, NaN equal to itself."""
    if isinstance(one, xr.DataArray | xr.Dataset):
        xr.testing.assert_identical(one, other)
        return type(one) is type(other)
    one, other = np.asarray(one), np.asarray(other)
    return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")


def test_it_cannot_be_made_without_its_methods():
    class Half(StorageBackend):
        def list_runs(self):
            return []

    with pytest.raises(TypeError, match="abstract"):
        Half()


def test_runs(storage):
    assert storage.load_run_metadata(RUN) == RunMetadata(50.0, NOW, None)
    storage.save_run_metadata(RUN, RunMetadata(comment="good"))
    storage.save_run_metadata(RUN, RunMetadata(start_time=60.0, added_at=7.0))
    assert storage.load_run_metadata(RUN) == RunMetadata(60.0, NOW, "good")
    storage.save_run_metadata((900, 2), RunMetadata(added_at=8.0))
    storage.save_run_metadata((1234, 0), RunMetadata(9.0))
    assert storage.load_run_metadata((900, 2)) == RunMetadata(None, 8.0, None)
    assert storage.list_runs() == [(900, 2), (1234, 0), RUN]
    assert storage.run_exists(RUN) is True
    assert storage.run_exists((1234, 2)) is False


def test_results_summaries_and_errors_in_place_of_each_other(storage):
    storage.save_result(RUN, StoredResult("b", Cell(np.arange(5.0), summary="max", units="eV")))
    storage.save_result(RUN, StoredResult("a.n", 3))
    storage.save_result(RUN, StoredResult("e", error=("ValueError", "bad\nvery")))
    storage.save_result(RUN, StoredResult("none"))
    storage.save_result(RUN, StoredResult("shown", Cell(preview=np.zeros((3, 3)), summary_value=8)))
    results = storage.load_results(RUN)
    assert list(results) == ["a.n", "b", "e"]
    assert same(results["b"].data, np.arange(5.0))
    assert results["e"] == StoredResult("e", error=("ValueError", "bad\nvery"))
    assert storage.load_summaries(RUN) == {
        "a.n": Summary(3),
        "b": Summary(4.0, method="max", max_diff=4.0, attributes={"units": "eV"}),
        "shown": Summary(8),
    }

    storage.save_summary(RUN, "b", Summary(1.5, attributes={"bold": True, "background": [1, 2, 3]}))
    storage.save_summary(RUN, "e", Summary("mended"))
    storage.save_summary(RUN, "a.n", Summary())
    assert storage.load_summaries(RUN) == {
        "b": Summary(1.5, attributes={"bold": True, "background": [1, 2, 3]}),
        "e": Summary("mended"),
        "shown": Summary(8),
    }
    assert same(storage.load_results(RUN)["b"].data, np.arange(5.0))
    assert list(storage.load_results(RUN)) == ["a.n", "b"]
    storage.save_result(RUN, StoredResult("b"))
    storage.save_result(RUN, StoredResult("a.n", error=("Skip", "no beam")))
    assert storage.load_results(RUN) == {"a.n": StoredResult("a.n", error=("Skip", "no beam"))}
    assert list(storage.load_summaries(RUN)) == ["e", "shown"]


def test_what_was_saved_is_not_changed_from_outside(storage):
    array = np.zeros(3)
    storage.save_result(RUN, StoredResult("a", array))
    array[0] = 1
    storage.load_results(RUN)["a"].data[1] = 1
    assert same(storage.load_results(RUN)["a"].data, np.zeros(3))
    report = {"list": [1]}
    storage.save_report(RUN, report)
    report["list"].append(2)
    storage.load_report(RUN)["list"].append(3)
    assert storage.load_report(RUN) == {"list": [1]}


def test_what_is_not_there_is_a_named_error(storage):
    other = (1234, 99)
    calls = [
        lambda: storage.load_run_metadata(other),
        lambda: storage.load_results(other),
        lambda: storage.load_summaries(other),
        lambda: storage.load_report(other),
        lambda: storage.delete_run(other),
        lambda: storage.save_result(other, StoredResult("a", 1)),
        lambda: storage.save_summary(other, "a", Summary(1)),
        lambda: storage.save_report(other, {}),
    ]
    for call in calls:
        with pytest.raises(RunNotFoundError, match="no run 99 of proposal 1234") as caught:
            call()
        assert isinstance(caught.value, FileNotFoundError | StorageError)
    with pytest.raises(ReportNotFoundError, match="run 1 of proposal 1234 has no report"):
        storage.load_report(RUN)
    assert (storage.load_results(RUN), storage.load_summaries(RUN)) == ({}, {})
    assert storage.list_runs() == [RUN]


def test_what_cannot_be_kept_is_refused_and_changes_nothing(storage):
    storage.save_result(RUN, StoredResult("a", 1))
    for bad in ("comment", "start_time", "not a name", ""):
        with pytest.raises(ValueError, match="no variable can be called"):
            storage.save_result(RUN, StoredResult(bad, 1))
        with pytest.raises(ValueError, match="no variable can be called"):
            storage.save_summary(RUN, bad, Summary(1))
    with pytest.raises(UnsavableError, match=r"_thread\.lock cannot be saved"):
        storage.save_result(RUN, StoredResult("a", threading.Lock()))
    for report in ([1], {"a": float("nan")}, {"a": object()}, {1: 2}, {"a": (1, 2)}):
        with pytest.raises((TypeError, ValueError)):
            storage.save_report(RUN, report)
    assert storage.load_results(RUN)["a"].data == 1


def test_reports(storage):
    storage.save_report(RUN, {"ok": True, "text": "é\n"})
    storage.save_report(RUN, {"failed": [{"name": "a", "n": 1.5, "none": None}]})
    assert storage.load_report(RUN) == {"failed": [{"name": "a", "n": 1.5, "none": None}]}


def test_a_deleted_run_leaves_nothing(storage):
    storage.save_run_metadata((1234, 2), RunMetadata(1.0, comment="stays"))
    storage.save_result((1234, 2), StoredResult("a", 2))
    storage.save_result(RUN, StoredResult("a", np.arange(3)))
    storage.save_report(RUN, {})
    storage.delete_run(RUN)
    assert storage.list_runs() == [(1234, 2)]
    assert storage.load_results((1234, 2))["a"].data == 2
    storage.save_run_metadata(RUN, RunMetadata())
    assert (storage.load_results(RUN), storage.load_summaries(RUN)) == ({}, {})
    assert storage.load_run_metadata(RUN) == RunMetadata(None, NOW, None)
    with pytest.raises(ReportNotFoundError):
        storage.load_report(RUN)


def test_closed_it_says_so(storage):
    storage.close()
    storage.close()
    for call in (
        lambda: storage.save_run_metadata(RUN, RunMetadata()),
        lambda: storage.load_run_metadata(RUN),
        lambda: storage.save_result(RUN, StoredResult("a", 1)),
        lambda: storage.load_results(RUN),
        lambda: storage.save_summary(RUN, "a", Summary(1)),
        lambda: storage.load_summaries(RUN),
        lambda: storage.save_report(RUN, {}),
        lambda: storage.load_report(RUN),
        lambda: storage.list_runs(),
        lambda: storage.run_exists(RUN),
        lambda: storage.delete_run(RUN),
    ):
        with pytest.raises(StorageClosedError, match="closed"):
            call()


def test_leaving_closes_and_lets_errors_through(tmp_path):
    for make in KINDS.values():
        with pytest.raises(ZeroDivisionError), make(tmp_path) as storage:
            1 / 0  # noqa: B018
        with pytest.raises(StorageClosedError):
            storage.list_runs()


def test_threads_append_without_loss(storage):
    failed = []

    def append(thread):
        try:
            for number in range(6):
                storage.save_result(RUN, StoredResult(f"v{thread}_{number}", number))
                assert storage.load_results(RUN)[f"v{thread}_{number}"].data == number
        except BaseException as error:  # noqa: BLE001 - shown below
            failed.append(error)

    threads = [threading.Thread(target=append, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(storage.load_results(RUN)) == len(storage.load_summaries(RUN)) == 24


NUMBERS = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=20),
)
ARRAYS = nps.arrays(
    st.sampled_from(["<f8", "<f4", "<i8", "<u2", "?", "<c16"]),
    nps.array_shapes(min_dims=1, max_dims=3, max_side=4),
)
DATA_ARRAYS = ARRAYS.map(
    lambda a: xr.DataArray(a, dims=[f"d{n}" for n in range(a.ndim)], coords={"d0": range(len(a))})
)


@pytest.fixture(scope="module")
def all_kinds(tmp_path_factory):
    storages = [make(tmp_path_factory.mktemp("storage")) for make in KINDS.values()]
    yield storages
    for storage in storages:
        storage.close()


@given(st.dictionaries(st.sampled_from("abc"), st.one_of(NUMBERS, ARRAYS, DATA_ARRAYS), min_size=1))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_data_come_back_the_same_from_every_kind(all_kinds, values):
    for storage in all_kinds:
        storage.save_run_metadata(RUN, RunMetadata(1.0))
        for name, value in values.items():
            storage.save_result(RUN, StoredResult(name, value))
    found = [storage.load_results(RUN) for storage in all_kinds]
    shown = [storage.load_summaries(RUN) for storage in all_kinds]
    for storage in all_kinds:
        storage.delete_run(RUN)
    for name, value in values.items():
        assert same(found[0][name].data, found[1][name].data)
        if isinstance(value, np.ndarray):
            assert same(found[0][name].data, value)
        elif not isinstance(value, xr.DataArray | str):
            assert found[0][name].data == value or np.isnan(value)
    assert repr(shown[0]) == repr(shown[1])


# From here on: over a folder.


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "amore"
    with FolderStorage(folder, proposal=1234) as storage:
        storage.save_run_metadata(RUN, RunMetadata(50.0, comment="good"))
    return folder


@needs_peer
def test_the_folder_is_an_ordinary_one(folder):
    with FolderStorage(folder, provenance="simulation") as storage:
        storage.save_result(RUN, StoredResult("energy", Cell(9.3, units="keV")))
        storage.save_result(RUN, StoredResult("line", np.arange(5.0)))
        storage.save_result(RUN, StoredResult("bad", error=("ValueError", "no beam")))
        storage.save_summary(RUN, "line", Summary(2.5, method="median"))
        storage.save_report(RUN, {"seen": "by nobody else"})
    table = RunTable(folder)
    assert (table.runs(), table[1].keys()) == ([1], ["comment", "energy", "line", "start_time"])
    assert table[1, "energy"].units == "keV"
    assert table[1, "line"].summary() == 2.5
    assert same(table[1, "line"].read(), np.arange(5.0))
    with pytest.raises(KeyError, match="ValueError: no beam"):
        table[1, "bad"]
    theirs = ask(folder, 1)
    assert {"energy", "line"} <= theirs["variables"].keys()


def test_what_is_missing_or_taken_is_said(folder, tmp_path):
    with pytest.raises(StorageNotFoundError, match=r"no database in .*give `proposal`"):
        FolderStorage(tmp_path)
    lock = FolderLock(folder)
    with FolderStorage(folder, wait=0.05) as storage:
        assert lock.acquire("command", time.time())
        with pytest.raises(StorageBusyError, match=r"in use by a command on .* more than 0 s"):
            storage.save_report(RUN, {})
        lock.release()
    with FolderStorage(folder, wait=30) as storage:
        assert lock.acquire("daemon", time.time())
        with pytest.raises(StorageBusyError, match=r"served by a daemon on .*ctxlib.submit"):
            storage.save_result(RUN, StoredResult("a", 1))
        assert storage.load_run_metadata(RUN).comment == "good"  # loading goes on
        lock.release()


APPEND = """
import sys
from pathlib import Path
from daemon.store.storage import StoredResult
from daemon.store.storage_folder import FolderStorage
with FolderStorage(Path(sys.argv[1])) as storage:
    for number in range(int(sys.argv[3])):
        name = f"v{sys.argv[2]}_{number}"
        storage.save_result((1234, 1), StoredResult(name, [float(number)] * 50))
        print(name, flush=True)
"""


def append(folder, process, number):
    command = [sys.executable, "-c", APPEND, str(folder), str(process), str(number)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_four_processes_append_without_loss_and_a_killed_one_loses_nothing_it_was_told(folder):
    processes = [append(folder, n, 8) for n in range(4)]
    killed = [append(folder, f"k{n}", 10**6) for n in range(2)]
    told = [
        [process.stdout.readline().strip() for _ in range(3 + n)]
        for n, process in enumerate(killed)
    ]
    for process in killed:
        process.kill()
    for process, names in zip(killed, told, strict=True):
        with process:
            names += [line.strip() for line in process.stdout if line.endswith("\n")]
    for process in processes:
        with process:
            assert len(process.stdout.readlines()) == 8
        assert process.returncode == 0
    with FolderStorage(folder) as storage:
        results, shown = storage.load_results(RUN), storage.load_summaries(RUN)
        wanted = {f"v{process}_{number}" for process in range(4) for number in range(8)}
        assert results.keys() >= wanted.union(*told)
        assert len(results) <= len(wanted.union(*told)) + len(killed)
        assert all(same(r.data, np.full(50, float(n.split("_")[1]))) for n, r in results.items())
        assert results.keys() == shown.keys()
        storage.save_result(RUN, StoredResult("after", 1))
    assert [p.name for p in folder.rglob("*") if p.name.startswith(".")] == []
    with h5py.File(folder / "extracted_data/p1234_r1.h5") as file:
        assert ".errors" in file


def test_killed_at_any_step_of_saving_it_keeps_what_was_saved_before(folder):
    with FolderStorage(folder) as storage:
        storage.save_result(RUN, StoredResult("kept", Cell(np.arange(60.0), summary="mean")))
        storage.save_result(RUN, StoredResult("changed", np.zeros(60)))
        storage.save_report(RUN, {"old": 1})
    old, new = folder.with_name("old"), folder.with_name("new")
    folder.rename(old)

    def save():
        with FolderStorage(folder) as storage:
            storage.save_result(RUN, StoredResult("changed", np.ones(60)))
            storage.save_summary(RUN, "kept", Summary(7.0))
            storage.save_report(RUN, {"new": 1})

    seen = set()
    for number in itertools.count(1, 5):
        shutil.copytree(old, folder)
        killed = killed_at(number, save)
        with FolderStorage(folder) as storage:
            results, shown = storage.load_results(RUN), storage.load_summaries(RUN)
            report = storage.load_report(RUN)
            assert same(results["kept"].data, np.arange(60.0))
            state = (results["changed"].data[0], shown["kept"].value, *report)
            assert same(results["changed"].data, np.full(60, state[0]))
            assert storage.load_run_metadata(RUN).comment == "good"
        seen.add(state)
        save()
        assert RunTable(folder)[1, "kept"].summary() == 7.0
        folder.rename(new)
        assert [str(path) for path in new.rglob("*") if path.name.startswith(".")] == []
        shutil.rmtree(new)
        if not killed:
            break
    assert seen == {
        (0.0, 29.5, "old"),
        (1.0, 29.5, "old"),
        (1.0, 7.0, "old"),
        (1.0, 7.0, "new"),
    }
    assert number > 40


def test_a_folder_is_for_its_group_whatever_the_umask_is(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with FolderStorage(tmp_path / "db", proposal=1234) as storage:
            storage.save_run_metadata(RUN, RunMetadata(start_time=1.0))
            storage.save_report(RUN, {})
    finally:
        os.umask(before)
    modes = {
        name: stat.S_IMODE((tmp_path / "db" / name).stat().st_mode) & 0o777
        for name in ("", "runs.sqlite", "extracted_data", "reports")
    }
    assert modes == {"": 0o770, "runs.sqlite": 0o660, "extracted_data": 0o770, "reports": 0o770}
