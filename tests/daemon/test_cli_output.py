"""Tables and times."""

import sys
from datetime import datetime

import click
import pytest

from daemon.cli.output import local_time, plural, print_table

ROWS: list[list[object]] = [
    ["a_key", None, "a long meaning " * 8],
    ["b", 3, "two\nlines [bold]x[/bold]"],
]


def test_in_a_pipe_each_row_is_one_whole_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["key", "value", "meaning"], ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "key    value  meaning"
    assert lines[1] == "a_key         " + ("a long meaning " * 8).strip()
    assert lines[2] == "b      3      two lines [bold]x[/bold]"
    assert len(lines) == 3


def test_in_a_terminal_rows_wrap_at_its_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    print_table(["key", "value", "meaning"], ROWS)
    out = click.unstyle(capsys.readouterr().out)
    assert all(len(line) <= 80 for line in out.splitlines())
    assert " ".join(out.split()).count("meaning") == 9
    assert "[bold]x[/bold]" in out


def test_times_are_local() -> None:
    assert local_time(1_700_000_000.5) == str(datetime.fromtimestamp(1_700_000_000))
    assert local_time(None) == ""


def test_plural() -> None:
    assert [plural(n, "run") for n in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]
