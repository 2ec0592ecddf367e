import pytest

from ctxlib.memory import parse_memory
from daemon.settings import Settings
from daemon.typed_settings import SettingError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("25G", 25 * 2**30),
        ("512M", 512 * 2**20),
        ("1.5 TiB", int(1.5 * 2**40)),
        ("100gb", 100 * 2**30),
        ("64k", 64 * 2**10),
        ("0", 0),
    ],
)
def test_memory(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["25", "G", "-1G", "1e3G", "25GiBs", ""])
def test_no_memory(text):
    with pytest.raises(ValueError, match="no amount of memory"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("noncluster-cpus", "8", 8),
        ("noncluster_cpus", " 8 ", 8),
        ("noncluster_mem", "50G", "50G"),
        ("settle_seconds", "0.5", 0.5),
        ("proposal", "1234", 1234),
        ("slurm_reservation", "upex_001234", "upex_001234"),
        ("slurm_reservation", "1234", "1234"),
        ("slurm-time", "02:00:00", "02:00:00"),
        ("slurm_time", "1-12", "1-12"),
        ("context_python", "/path/to/your/python", "/path/to/your/python"),
        ("proposal_path", "/gpfs/exfel/p1234/", "/gpfs/exfel/p1234"),
        ("supervisor_host", "max-exfl001.desy.de", "max-exfl001.desy.de"),
        ("share-with", "owner", "owner"),
        ("memory_reserve", "0", "0"),
        ("run-pattern", "visit/{run:06d}", "visit/{run:06d}"),
        ("source", "hdf5", "hdf5"),
    ],
)
def test_parse(key, text, value):
    found = Settings.parse(key, text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("noncluster_cpus", "0", "'0': it must be a whole number from 1 to 4096"),
        ("noncluster_cpus", "many", "must be a whole number"),
        ("noncluster_cpus", "2.5", "must be a whole number"),
        ("settle_seconds", "nan", "a number from 0 to 3600"),
        ("noncluster_mem", "25", "a number with its unit, as 25G"),
        ("noncluster_mem", "1M", "64M or more"),
        ("job_timeout", "5", "from 60 to 86400"),
        ("process_start", "spoon", "fork or fresh"),
        ("context_python", "python3", "an absolute path"),
        ("marker_file", "a/b", "without a folder"),
        ("run_pattern", "raw/r0042", "with {run} once for its number"),
        ("run_pattern", "/data/{run}", "below proposal_path"),
        ("run_pattern", "../{run}", "as {data}/r{run:04d}"),
        ("source", "my source", "as euxfel or hdf5"),
        ("slurm_time", "soon", "as 02:00:00"),
        ("slurm_partition", "a b", "a name"),
        ("supervisor_host", "a host", "a host name"),
        ("db_id", "1", "cannot be changed"),
        ("noncluster_cpu", "8", "did you mean noncluster_cpus"),
        ("qqq", "8", "without a KEY, all are listed"),
    ],
)
def test_refused_with_what_would_be_right(key, text, words):
    with pytest.raises(SettingError, match=words) as refused:
        Settings.parse(key, text)
    assert key.replace("-", "_") in str(refused.value)


def test_number_asks_for_a_number():
    assert Settings.parse("concurrent_jobs", "20", number=True) == 20
    with pytest.raises(SettingError, match="'x' is no number"):
        Settings.parse("slurm_partition", "x", number=True)


def test_from_rows_takes_what_the_peer_stored():
    rows = {
        "data_format_version": 4,
        "proposal": 1234,
        "noncluster_cpus": "8",
        "concurrent_jobs": 8,
        "db_id": "6ca970",
        "static_mode": 1,
        "slurm_time": None,
    }
    settings = Settings.from_rows(rows)
    assert (settings.proposal, settings.noncluster_cpus, settings.concurrent_jobs) == (1234, 8, 8)
    assert settings.db_id == "6ca970"
    assert settings.warnings == []
    assert settings.slurm_time is None


def test_a_bad_stored_value_is_the_default_and_a_warning():
    settings = Settings.from_rows({"noncluster_cpus": "lots", "noncluster_mem": "1G"})
    assert settings.noncluster_cpus == 4
    assert settings.noncluster_mem == "1G"
    [warning] = settings.warnings
    assert "noncluster_cpus cannot be 'lots'" in warning
    assert warning.endswith("taken instead: 4")


def test_every_setting_is_described():
    listed = {
        item["key"]: item for item in Settings(settle_seconds=3).listed({"settle_seconds": 3})
    }
    assert listed["settle_seconds"] == {
        "key": "settle_seconds",
        "value": 3.0,
        "default": 10.0,
        "meaning": "seconds without a change after which a run is complete",
        "set": True,
    }
    assert listed["local_jobs"]["default"] >= 1
    assert not listed["local_jobs"]["set"]
    for key, item in listed.items():
        assert item["meaning"]
        if key not in Settings.READ_ONLY:
            assert Settings.right(key)


def test_share_with_is_a_umask():
    assert oct(Settings().umask) == "0o7"
    assert oct(Settings(share_with="owner").umask) == "0o77"
