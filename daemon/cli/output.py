"""How commands show things: tables, times and lists, for people and for pipes."""

import sys
from collections.abc import Sequence
from datetime import datetime

import click


def local_time(seconds: float | None) -> str:
    """A time (seconds since the epoch) in this machine's time zone; "" for None."""
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def plural(number: int, noun: str) -> str:
    """`number` with its noun: "1 run", "2 runs"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print `rows` below `headers`: wrapped to a terminal's width, one line per row in a pipe."""
    texts = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_wrapped(headers, texts)
    else:
        _print_lines(headers, texts)


def _print_wrapped(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for number, header in enumerate(headers):
        table.add_column(header, overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def _print_lines(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [list(headers), *([" ".join(cell.split()) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
