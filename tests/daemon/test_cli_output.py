"""Tables and times."""

import sys
from collections import Counter
from datetime import datetime

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.cli.output import local_time, plural, print_table, table_lines

ROWS: list[list[object]] = [
    ["a_key", None, "a long meaning " * 8],
    ["b", 3, "two\nlines [bold]x[/bold]"],
]

words = st.text("abc -/", max_size=60).map(lambda text: " ".join(text.split()))
tables = st.integers(1, 6).flatmap(
    lambda columns: st.lists(
        st.lists(words, min_size=columns, max_size=columns), min_size=1, max_size=4
    )
)


def test_in_a_pipe_each_row_is_one_whole_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["key", "value", "meaning"], ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "key    value  meaning"
    assert lines[1] == "a_key         " + ("a long meaning " * 8).strip()
    assert lines[2] == "b      3      two lines [bold]x[/bold]"
    assert len(lines) == 3


def test_what_others_wrote_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["payload"], [["a\x1b]0;title\x07\x9b2Jb é"]])
    assert capsys.readouterr().out.splitlines()[1] == "a�]0;title��2Jb é"


def test_half_a_surrogate_pair_is_shown_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["error"], [["x\ud800y"]])
    assert capsys.readouterr().out.splitlines()[1] == "x�y"


def test_in_a_terminal_rows_are_fitted_to_its_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    print_table(["key", "value", "meaning"], ROWS)
    lines = click.unstyle(capsys.readouterr().out).splitlines()
    assert lines == [
        "key    value  meaning",
        "a_key         a long meaning a long meaning a long meaning a",
        "              long meaning a long meaning a long meaning a",
        "              long meaning a long meaning",
        "b      3      two lines [bold]x[/bold]",
    ]


def test_without_room_the_last_column_goes_below_its_row() -> None:
    rows = [["job", "state", "reason"], ["20261121", "failed", "the run folder vanished"]]
    assert table_lines(rows, 30) == [
        "job       state",
        "20261121  failed",
        "    the run folder",
        "    vanished",
    ]
    assert table_lines([*rows[:1], ["20261121", "done", ""]], 30) == [
        "job       state  reason",
        "20261121  done",
    ]


@given(tables, st.integers(60, 200))
def test_nothing_is_lost_at_any_width(rows: list[list[str]], width: int) -> None:
    lines = table_lines([["title"] * len(rows[0]), *rows], width)
    cells = "".join("".join(row) for row in rows)
    assert not Counter(cells.replace(" ", "")) - Counter("".join(lines[1:]))


def test_times_are_local() -> None:
    assert local_time(1_700_000_000.5) == str(datetime.fromtimestamp(1_700_000_000))
    assert local_time(None) == ""


def test_plural() -> None:
    assert [plural(n, "run") for n in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]
