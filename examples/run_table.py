"""What a run table shows at this moment, read from `runs.sqlite` beside the daemon."""

import io
import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table
from rich.text import Text

BARS = "▁▂▃▄▅▆▇█"
CELL_WIDTH = 11  # five runs and the titles fit into 80 columns


@dataclass(frozen=True)
class Cell:
    """One value as the table shows it, and why there is none where it failed or was skipped."""

    text: str
    problem: str = ""
    skipped: bool = False


@dataclass(frozen=True)
class RunTable:
    """All values so far: `cells[(run, name)]`, and the variables' titles by name."""

    titles: dict[str, str]
    cells: dict[tuple[int, str], Cell]

    def render(self, runs: list[int]) -> Table:
        """The table on its side: a column for each of `runs`, so that a terminal holds it."""
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
        table.add_column("Variable", no_wrap=True)
        for run in runs:
            table.add_column(f"run {run}", width=CELL_WIDTH, no_wrap=True, justify="right")
        for name, title in self.titles.items():
            cells = [self.cells.get((run, name)) for run in runs]
            if any(cells):
                table.add_row(title, *(Text("" if c is None else c.text, _style(c)) for c in cells))
        return table

    def problems(self) -> list[str]:
        """One line for each reason why cells have no value, with the runs that it is about."""
        runs: dict[str, list[int]] = {}
        for (run, name), cell in sorted(self.cells.items()):
            if cell.problem:
                runs.setdefault(f"{self.titles[name]}: {cell.problem}", []).append(run)
        return [f"{line} (run {', '.join(map(str, where))})" for line, where in runs.items()]


def read(database: Path) -> RunTable:
    """Read the table in `database`."""
    connection = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=10)
    try:
        titles = dict(connection.execute("SELECT name, title FROM variables WHERE type IS NULL"))
        rows = connection.execute(
            "SELECT run, name, value, summary_type, attributes FROM run_variables"
        ).fetchall()
    finally:
        connection.close()
    cells = {(run, name): _cell(*rest) for run, name, *rest in rows if name in titles}
    return RunTable(titles, cells)


def _cell(value: object, summary_type: str | None, attributes: str | None) -> Cell:
    details = json.loads(attributes or "{}")
    if details.get("error_cls"):
        skipped = details["error_cls"] == "Skip"
        problem = details["error"] if skipped else f"{details['error_cls']}: {details['error']}"
        return Cell("skipped" if skipped else "failed", " ".join(problem.split()), skipped)
    units = f" {details['units']}" if details.get("units") else ""
    if isinstance(value, bytes):
        return Cell(_picture(value, summary_type))
    if isinstance(value, float):
        return Cell(f"{value:.4g}{units}")
    return Cell("" if value is None else f"{value}{units}")


def _picture(value: bytes, summary_type: str | None) -> str:
    if summary_type == "trendline":
        return sparkline(np.load(io.BytesIO(value))[1])
    return summary_type or "[image]"


def sparkline(values: np.ndarray, width: int = CELL_WIDTH) -> str:
    """`values` as a line of `width` bars; not finite ones are left out."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return ""
    means = np.array([part.mean() for part in np.array_split(finite, min(width, finite.size))])
    low, high = means.min(), means.max()
    levels = (means - low) / ((high - low) or 1) * (len(BARS) - 1)
    return "".join(BARS[round(level)] for level in levels)


def _style(cell: Cell | None) -> str:
    if cell is None or not cell.problem:
        return ""
    return "dim" if cell.skipped else "red"
