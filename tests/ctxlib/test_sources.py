import os
import shutil

import numpy as np
import pytest

from ctxlib import sources
from ctxlib.sources import RunUnavailable


def request(proposal_path, data="raw", run=1, mock=False):
    path = None if proposal_path is None else str(proposal_path)
    return {"proposal": 1234, "proposal_path": path, "run": run, "data": data, "mock": mock}


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
