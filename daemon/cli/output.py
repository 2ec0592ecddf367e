"""How commands show things: tables, times and lists, for people and for pipes."""

import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import zip_longest
from typing import Any

import click

GAP = "  "
WIDEST = 20
"""A column between the first and the last one that is wider than this is folded in a terminal."""
_CONTROLS = dict.fromkeys(
    [*range(0x20), *range(0x7F, 0xA0), *range(0xD800, 0xE000)], "\N{REPLACEMENT CHARACTER}"
)
"""What others have written, in a message say, must not steer the terminal that shows it.

Half a surrogate pair, as in the text of an exception, could not be written at all.
"""
NARROWEST = 24
"""With less room than this, the last column of a table goes below its row in a terminal."""


def local_time(seconds: float | None) -> str:
    """A time (seconds since the epoch) in this machine's time zone; "" for None."""
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def plural(number: int, noun: str) -> str:
    """`number` with its noun: "1 run", "2 runs"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def how_far(variable: str | None, report: Mapping[str, Any] | None) -> str:
    """The variable that a job is at, with what it says of itself: "camera 30 of 100, frames"."""
    if variable is None or report is None:
        return variable or ""
    text = f", {report['text']}" if report["text"] else ""
    return f"{variable} {report['done']:.10g} of {report['total']:.10g}{text}"


def on_backend(backend: str | None) -> str:
    """ " on cluster", to say after what runs there; nothing for this machine."""
    return "" if backend in (None, "local", "sequential") else f" on {backend}"


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print `rows` below `headers`: fitted to a terminal's width, one line per row in a pipe."""
    texts = [[_one_line(cell) for cell in row] for row in [headers, *rows]]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for number, line in enumerate(table_lines(texts, width)):
        click.secho(line, bold=True if number == 0 else None)


def table_lines(rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """`rows` of equal length in columns, within `width` characters (None: one line per row)."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if width is None:
        return [_joined(row, widths) for row in rows]
    widths[1:-1] = [min(each, WIDEST) for each in widths[1:-1]]
    room = width - sum(widths[:-1]) - len(GAP) * (len(widths) - 1)
    if room >= min(NARROWEST, widths[-1]):
        widths[-1] = room
        return [line for row in rows for line in _folded(row, widths)]
    lines = _folded(rows[0][:-1], widths)
    for row in rows[1:]:
        lines += _folded(row[:-1], widths)
        lines += textwrap.wrap(row[-1], width - 4, initial_indent="    ", subsequent_indent="    ")
    return lines


def _one_line(cell: object) -> str:
    return "" if cell is None else " ".join(str(cell).split()).translate(_CONTROLS)


def _folded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """The lines of one row, each cell within its column's width."""
    cells = [textwrap.wrap(cell, width) for cell, width in zip(row, widths, strict=False)]
    return [_joined(line, widths) for line in zip_longest(*cells, fillvalue="")]


def _joined(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=False))
    return GAP.join(padded).rstrip()
