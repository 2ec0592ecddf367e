"""What is measured, and the table that shows it."""

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

HEAD = ("", "ours", "peer", "ratio", "goal")


@dataclass(frozen=True)
class Figure:
    """One line of the table: `ours` and `peer` in `unit`, None where there is nothing to measure.

    `goal` is ours, in words; `better` says which way is the better one.
    """

    what: str
    ours: float | None
    peer: float | None
    unit: str
    goal: str = ""
    better: Literal["less", "more"] = "less"

    @property
    def ratio(self) -> float | None:
        """How many times better ours is; None when one of the two is missing or zero."""
        if not self.ours or not self.peer:
            return None
        return self.peer / self.ours if self.better == "less" else self.ours / self.peer

    def cells(self) -> tuple[str, ...]:
        """The texts of the line."""
        ratio = "" if self.ratio is None else f"{self.ratio:.3g} x"
        return (self.what, self._words(self.ours), self._words(self.peer), ratio, self.goal)

    def _words(self, value: float | None) -> str:
        return "-" if value is None else f"{value:.3g} {self.unit}".strip()


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def median_seconds(work: Callable[[], object], times: int) -> float:
    """The median of how long `work` takes, done `times` times."""
    return statistics.median(seconds(work) for _ in range(times))


def table(figures: Iterable[Figure]) -> str:
    """The figures in columns, as Markdown."""
    rows = [HEAD, *(figure.cells() for figure in figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [" | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "-|-".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)
