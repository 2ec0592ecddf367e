import pytest

from ctxlib.job_folder import attempts, fragment_path
from ctxlib.known import known_results


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x.h5", "/etc/passwd", "a/b.h5", "a\0", 3, None]
)
def test_fragment_names_do_not_lead_elsewhere(tmp_path, name):
    assert fragment_path(tmp_path, name) is None


def test_fragment_names_may_have_dots(tmp_path):
    assert fragment_path(tmp_path, "xgm..a.h5") == tmp_path / "fragments" / "xgm..a.h5"


def test_only_numbered_folders_are_attempts(tmp_path):
    for name in ("10", "9", "x", "²"):
        (tmp_path / name).mkdir()
    (tmp_path / "1").touch()
    assert [path.name for path in attempts(tmp_path)] == ["9", "10"]
    assert attempts(tmp_path / "gone") == []


def test_results_of_a_job_whose_folder_was_deleted(tmp_path):
    known = known_results([tmp_path / "gone"])
    assert not known.done("foo")
    with pytest.raises(FileNotFoundError, match="gone"):
        known.value("foo")
