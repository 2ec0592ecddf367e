"""`proposal`: get, set, and the blank database of a fresh start."""

from pathlib import Path

import pytest
from cli_fake import FakeService, Run

from daemon.cli.folder import PROPOSAL
from daemon.settings import Settings


@pytest.fixture(autouse=True)
def _answers(cli_service: FakeService) -> None:
    cli_service.answers["settings"] = {"rows": {"proposal": 1234}, "settings": []}
    cli_service.answers["set"] = cli_service.answers["create"] = {}


def test_get(cli: Run, cli_service: FakeService) -> None:
    assert cli("proposal").output == "Current proposal number: 1234\n"
    cli_service.answers["settings"] = {"rows": {}, "settings": []}
    assert cli("proposal").output == "Current proposal number: not set\n"


def test_set(cli: Run, cli_service: FakeService, cli_folder: Path) -> None:
    result = cli("proposal", "1235", "--in", cli_folder)
    assert result.output == "Changed proposal to 1235 (was 1234)\n"
    assert cli_service.asked[-1] == ("set", {"key": "proposal", "value": "1235"})


def test_without_a_database_one_is_made(
    cli: Run, cli_service: FakeService, cli_folder: Path
) -> None:
    (cli_folder / "runs.sqlite").unlink()
    result = cli("proposal", "1234")
    assert result.output == f"Made a blank database for proposal 1234 in {cli_folder}\n"
    assert cli_service.created == [1234]
    assert cli_service.asked == [("create", {"proposal": 1234})]


def test_get_without_a_database_is_an_error(cli: Run, cli_folder: Path) -> None:
    (cli_folder / "runs.sqlite").unlink()
    result = cli("proposal")
    assert result.exit_code == 1
    assert "no database in" in result.stderr


@pytest.mark.parametrize("number", ["0", "p1234", "12.5", "1000000"])
@pytest.mark.parametrize(
    "words", [["proposal"], ["notify", "--run", "1", "--data", "raw", "--proposal"]]
)
def test_a_number_that_is_none(
    cli: Run, cli_service: FakeService, words: list[str], number: str
) -> None:
    assert cli(*words, number).exit_code == 2
    assert cli_service.asked == []


def test_numbers_are_those_of_the_setting() -> None:
    assert Settings.right("proposal") == f"a whole number from {PROPOSAL.min} to {PROPOSAL.max}"
