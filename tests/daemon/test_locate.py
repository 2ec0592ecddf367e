"""Finding the folder and the proposal that are meant."""

from pathlib import Path

import pytest

from ctxlib.places import NotFoundError, find_folder
from daemon.locate import ProposalFolder, proposal_path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EXTRA_DATA_DATA_ROOT", str(tmp_path))
    (tmp_path / "SPB/202601/p001234/raw").mkdir(parents=True)
    return tmp_path


def test_a_proposal_number_finds_its_database(root: Path) -> None:
    expected = root / "SPB/202601/p001234/usr/Shared/amore"
    assert find_folder("1234") == find_folder("p001234") == expected


def test_an_unknown_proposal_says_where_was_looked(root: Path) -> None:
    with pytest.raises(NotFoundError, match=r"proposal 99 .*p000099"):
        find_folder("99")


def test_a_folder_wins_over_a_proposal(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    (root / "1234").mkdir()
    assert find_folder("1234") == root / "1234"


def test_no_argument_is_the_current_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    assert find_folder(None) == root


def test_the_proposal_of_a_folder(root: Path, tmp_path: Path) -> None:
    proposal = root / "SPB/202601/p001234"
    folder = proposal / "usr/Shared/amore"
    assert proposal_path(folder, 1234, None) == proposal
    assert proposal_path(Path("/nowhere"), 1234, None) == proposal
    assert proposal_path(Path("/nowhere"), 99, None) is None
    assert proposal_path(folder, 1234, "/data/here") == Path("/data/here")


def test_any_folder_with_raw_beside_usr_is_a_proposal(tmp_path: Path) -> None:
    (tmp_path / "beamtime/raw").mkdir(parents=True)
    assert (
        proposal_path(tmp_path / "beamtime/usr/Shared/amore", None, None) == tmp_path / "beamtime"
    )


def test_a_proposal_is_looked_for_now_and_then_until_it_is_found(root: Path) -> None:
    asked: list[tuple[int | None, str | None]] = [(99, None)]
    now = [0.0]
    folder = ProposalFolder(Path("/nowhere"), lambda: asked[0], clock=lambda: now[0])
    assert folder.path() is None
    later = root / "SPB/202601/p000099"
    later.mkdir()
    assert folder.path() is None
    now[0] += 60
    assert folder.path() == later
    later.rmdir()
    now[0] += 60
    assert folder.path() == later
    asked[0] = (1234, None)
    assert folder.path() == root / "SPB/202601/p001234"
    asked[0] = (1234, "/data/here")
    assert folder.path() == Path("/data/here")


def test_another_proposal_is_beside_ours_or_below_the_data_root(root: Path, tmp_path: Path) -> None:
    own = tmp_path / "elsewhere/p001234"
    (own / "usr/Shared/amore").mkdir(parents=True)
    folder = ProposalFolder(own / "usr/Shared/amore", lambda: (1234, None))
    other = root / "MID/202601/p900042"
    assert folder.path(900042) is None
    other.mkdir(parents=True)  # it is looked for again
    assert folder.path(900042) == other
    assert folder.path(1234) == folder.path() == own
    (own.parent / "p000007").mkdir()
    assert folder.path(7) == own.parent / "p000007"
