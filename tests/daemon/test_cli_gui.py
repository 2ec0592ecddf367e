"""`gui` opens the address that the page's program has left."""

import webbrowser
from pathlib import Path

import pytest
from cli_fake import Run

URL = "http://127.0.0.1:8765/?token=abc"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    opened: list[str] = []

    def open_(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr(webbrowser, "open", open_)
    return opened


def test_the_address_is_opened_and_shown(cli: Run, cli_folder: Path, opened: list[str]) -> None:
    (cli_folder / "web.json").write_text(f'{{"url": "{URL}"}}')
    for arguments in ([], [cli_folder, "--software-opengl"]):
        result = cli("gui", *arguments)
        assert (result.exit_code, result.output) == (0, f"{URL}\n")
    assert opened == [URL, URL]


def test_without_a_browser_the_address_is_shown(
    cli: Run, cli_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    (cli_folder / "web.json").write_text(f'{{"url": "{URL}"}}')
    result = cli("gui")
    assert (result.exit_code, result.stdout) == (0, f"{URL}\n")
    assert "open the address in yours" in result.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "web.json, where the program that serves it leaves its address, is not there"),
        ("{", "has no address"),
        ('["url"]', "has no address"),
        ("{}", "has no address"),
        ('{"url": "file:///etc/passwd"}', "is no address of a page"),
        ('{"url": 5}', "is no address of a page"),
    ],
)
def test_without_an_address(
    cli: Run, cli_folder: Path, opened: list[str], content: str | None, words: str
) -> None:
    if content is not None:
        (cli_folder / "web.json").write_text(content)
    result = cli("gui")
    assert result.exit_code == 1
    assert words in result.stderr
    assert opened == []
