"""Lists of runs as people write them: "1-100,205" and "all"."""

import re
from collections.abc import Iterable, Sequence
from typing import Literal

LAST_RUN = 999_999
"""No facility counts further; a longer number is a slip of the finger, such as a missing comma."""

_PART = re.compile(r"(\d+)(?:\s*-\s*(\d+))?", re.ASCII)


def parse_runs(texts: Iterable[str]) -> list[int] | Literal["all"]:
    """The runs that `texts` name, each once, in the order given; or "all".

    Every text is a run, a range whose ends both count, or several of those with commas between.
    Raises ValueError, naming the text and what would be right.
    """
    parts = [part.strip() for text in texts for part in text.split(",")]
    if not any(parts):
        raise ValueError("no runs given: write runs and ranges such as 1-100,205, or all")
    if "all" in parts:
        if len(parts) > 1:
            raise ValueError("'all' stands alone: leave out the other runs")
        return "all"
    runs: dict[int, None] = {}
    for part in filter(None, parts):
        runs.update(dict.fromkeys(_parse_part(part)))
    return list(runs)


def _parse_part(part: str) -> range:
    match = _PART.fullmatch(part)
    if match is None:
        raise ValueError(f"{part!r} is no run: write runs and ranges such as 1-100,205, or all")
    first = _run_number(match[1])
    last = first if match[2] is None else _run_number(match[2])
    if last < first:
        raise ValueError(f"the range {part!r} runs backwards: did you mean {last}-{first}?")
    return range(first, last + 1)


def _run_number(digits: str) -> int:
    # The length is looked at first, because Python refuses to convert thousands of digits.
    if len(digits.lstrip("0")) > len(str(LAST_RUN)):
        raise ValueError(f"{digits[:20]!r} is no run: the highest run number is {LAST_RUN}")
    return int(digits)


def format_runs(runs: Iterable[int]) -> str:
    """`runs` in ascending order as `parse_runs` reads them, neighbours joined: "1-100,205"."""
    ranges: list[list[int]] = []
    for run in sorted(set(runs)):
        if ranges and ranges[-1][1] == run - 1:
            ranges[-1][1] = run
        else:
            ranges.append([run, run])
    return ",".join(_format_range(pair) for pair in ranges)


def _format_range(pair: Sequence[int]) -> str:
    first, last = pair
    if first == last:
        return str(first)
    return f"{first},{last}" if last == first + 1 else f"{first}-{last}"
