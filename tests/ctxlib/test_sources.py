import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from ctxlib import sources
from ctxlib.run_pattern import RunPattern
from ctxlib.sources import RunUnavailable


def request(proposal_path, data="raw", run=1, mock=False, **more):
    path = None if proposal_path is None else str(proposal_path)
    place = {"proposal": 1234, "proposal_path": path, **more}
    return {**place, "run": run, "data": data, "mock": mock}


@pytest.fixture
def proposal(tmp_path):
    for data in ("raw", "proc"):
        (tmp_path / data).mkdir()
    return tmp_path


def copy_run(example, proposal, data="raw"):
    return shutil.copytree(example / data / "r0001", proposal / data / "r0001")


def test_raw_jobs_see_raw_data(example_proposal):
    opened = sources.open_run(request(example_proposal))
    assert "SA1_XTD2_XGM/DOOCS/MAIN" in opened.run.control_sources
    assert len(opened.run.train_ids) == 64
    first = opened.run.train_timestamps()[0].astype("datetime64[us]").astype(np.int64) / 1e6
    assert opened.start_time == pytest.approx(first)


@pytest.mark.parametrize("data", ["proc", "all"])
def test_proc_jobs_see_raw_and_proc_together(example_proposal, data):
    run = sources.open_run(request(example_proposal, data)).run
    assert "SA1_XTD2_XGM/DOOCS/MAIN" in run.control_sources
    module = run["SPB_DET_AGIPD1M-1/DET/0CH0:xtdf", "image.data"]
    assert module.dtype == np.float32  # corrected


def test_where_there_is_no_proc_data_raw_is_what_there_is(example_proposal, proposal):
    copy_run(example_proposal, proposal)
    assert sources.available_data(request(proposal, "all")) == "raw"
    assert sources.available_data(request(example_proposal, "all")) == "all"
    assert sources.available_data(request(proposal, "proc")) == "proc"
    assert sources.open_run(request(proposal, "proc")).run.train_ids


def test_without_train_times_a_run_began_with_its_oldest_file(proposal):
    from extra_data.tests.make_examples import make_sa3_da_file

    folder = proposal / "raw" / "r0001"
    folder.mkdir()
    make_sa3_da_file(folder / "RAW-R0001-DA01-S00000.h5", ntrains=5, format_version="0.5")
    os.utime(next(folder.iterdir()), (1e9, 1e9))
    assert sources.open_run(request(proposal)).start_time == 1e9


def test_a_missing_run_is_named(proposal):
    with pytest.raises(RunUnavailable, match=r"there is no folder .*/raw/r0007") as caught:
        sources.open_run(request(proposal, run=7))
    assert caught.value.start_time is None


def test_an_empty_run_is_named(proposal):
    (proposal / "raw" / "r0001").mkdir()
    (proposal / "raw" / "r0001" / "notes.txt").write_text("")
    with pytest.raises(RunUnavailable, match=r"raw/r0001 has no data files \(\*\.h5\)"):
        sources.open_run(request(proposal))


@pytest.mark.parametrize("data", ["raw", "all"])
def test_a_folder_that_may_not_be_read_is_named(proposal, monkeypatch, data):
    folder = proposal / ("raw" if data == "raw" else "proc") / "r0001"
    folder.mkdir()
    listed = Path.iterdir

    def refuse(path):  # the superuser, who may run the tests, is never refused
        if path == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    asked = sources.available_data if data == "all" else sources.open_run
    with pytest.raises(RunUnavailable, match=r"/r0001 cannot be read by \S+: Permission denied"):
        asked(request(proposal, data))


def test_a_truncated_file_is_named(example_proposal, proposal, capfd):
    folder = copy_run(example_proposal, proposal)
    broken = sorted(folder.iterdir())[3]
    os.truncate(broken, 3000)
    with pytest.raises(RunUnavailable, match=broken.name) as caught:
        sources.open_run(request(proposal))
    assert caught.value.start_time is not None
    assert "Skipping" in capfd.readouterr().err  # extra_data would have gone on without it


def test_a_run_of_nothing_readable_is_unavailable(proposal):
    folder = proposal / "raw" / "r0001"
    folder.mkdir()
    (folder / "RAW-R0001-DA01-S00000.h5").write_bytes(b"")
    with pytest.raises(RunUnavailable, match=r"DA01-S00000\.h5 cannot be read"):
        sources.open_run(request(proposal))


def test_an_unknown_proposal_folder_is_told_with_its_mend():
    with pytest.raises(RunUnavailable, match="db-config proposal_path"):
        sources.open_run(request(None))


def test_a_mock_run_needs_no_files():
    opened = sources.open_run(request(None, "all", mock=True))
    assert sources.available_data(request(None, "all", mock=True)) == "all"
    run = opened.run
    assert len(run.train_ids) == len(run.train_timestamps()) == 10
    assert run["ANY/SOURCE", "any.key"].ndarray().shape == (10,)
    labelled = run.select_trains(np.s_[2:5])["ANY/SOURCE", "any.key"].xarray()
    assert labelled.trainId.values.tolist() == [2, 3, 4]
    assert run.train_timestamps()[0].astype("datetime64[s]").astype(int) == opened.start_time


@pytest.mark.parametrize("name", ["euxfel", "hdf5", "mock"])
def test_the_sources_that_are_always_there(name):
    source = sources.find(name)
    source.preload()
    assert callable(source.open_run)


def test_the_mock_source_is_one_to_choose():
    opened = sources.open_run(request(None, "all", source="mock"))
    assert sources.available_data(request(None, "all", source="mock")) == "all"
    assert len(opened.run.train_ids) == 10


@pytest.mark.parametrize("pattern", ["visit/{run}/{data}", "{data}_{run:03d}"])
def test_euxfel_files_in_other_folders(example_proposal, tmp_path, pattern):
    asked = request(tmp_path, "raw", run=7, run_pattern=pattern)
    where = RunPattern(pattern)
    shutil.copytree(example_proposal / "raw/r0001", tmp_path / where.folder("raw", 7))
    assert sources.available_data({**asked, "data": "all"}) == "raw"
    assert sources.open_run(asked).start_time
    shutil.copytree(example_proposal / "proc/r0001", tmp_path / where.folder("proc", 7))
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr/extra-data-aliases.yml").write_text("xgm: SA1_XTD2_XGM/DOOCS/MAIN\n")
    assert sources.available_data({**asked, "data": "all"}) == "all"
    both = sources.open_run({**asked, "data": "all"})
    expected = sources.open_run(request(example_proposal, "all"))
    assert both.start_time == pytest.approx(expected.start_time, abs=60)
    assert both.run.all_sources == expected.run.all_sources
    assert both.run.is_single_run
    assert both.run["SPB_DET_AGIPD1M-1/DET/0CH0:xtdf", "image.data"].dtype == np.float32
    assert both.run.alias["xgm"].source == "SA1_XTD2_XGM/DOOCS/MAIN"
    with pytest.raises(RunUnavailable, match="there is no folder"):
        sources.open_run({**asked, "run": 8})


OTHER = """
from pathlib import Path
from ctxlib.sources import OpenedRun, RunUnavailable, folders

def list_files(folder):
    return sorted(folder.glob("*.txt"))

def preload():
    import fractions

def available_data(request):
    return folders.available_data(request, list_files)

def open_run(request):
    files = folders.data_files(request, list_files, "*.txt")
    texts = {data: some[0].read_text() for data, some in files.items()}
    if "bad" in texts["raw"]:
        raise ValueError("bad text")
    return OpenedRun(texts, folders.oldest(files["raw"]))

class Half:
    preload = None
    def open_run(self, request): ...

half = Half()
"""


@pytest.fixture
def other_package(tmp_path, monkeypatch):
    """A package in the environment that has sources of runs."""
    place = tmp_path / "site"
    info = place / "texts-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: texts\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[runtable.sources]\ntexts = texts_source\nhalf = texts_source:half\n"
        "lost = texts_source:nothing\nmock = texts_source\n"
    )
    (place / "texts_source.py").write_text(OTHER)
    monkeypatch.syspath_prepend(place)
    yield
    sys.modules.pop("texts_source", None)


def test_a_source_of_another_package(other_package, proposal):
    asked = request(proposal, "all", source="texts")
    sources.preload(asked)
    for data in ("raw", "proc"):
        folder = proposal / data / "r0001"
        folder.mkdir()
        (folder / "a.txt").write_text(data)
        os.utime(folder / "a.txt", (1e9, 1e9))
    assert sources.available_data(asked) == "all"
    opened = sources.open_run(asked)
    assert opened.run == {"raw": "raw", "proc": "proc"}
    assert opened.start_time == 1e9


def test_a_source_that_fails_makes_its_run_unavailable(other_package, proposal, capfd):
    (proposal / "raw" / "r0001").mkdir()
    (proposal / "raw" / "r0001" / "a.txt").write_text("bad")
    with pytest.raises(RunUnavailable, match="source 'texts' failed with ValueError: bad text"):
        sources.open_run(request(proposal, source="texts"))
    assert "texts_source.py" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "nexus",
            r"no source of runs 'nexus' .*; there are euxfel, hdf5, mock, half, lost, texts$",
        ),
        ("lost", r"'lost' \(texts_source:nothing\) cannot be loaded: AttributeError"),
        ("half", "'half' .* has no preload and no available_data"),
    ],
)
def test_what_is_no_source(other_package, name, words):
    with pytest.raises(sources.UnknownSource, match=words):
        sources.find(name)
    sources.preload(request(None, source=name))
    with pytest.raises(RunUnavailable, match=words):
        sources.open_run(request(None, source=name))


def test_a_built_in_source_cannot_be_replaced(other_package):
    assert sources.find("mock").__name__ == "ctxlib.sources.mock"
