"""Cell: a result together with how the table shows it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_HEX = re.compile(r"#([0-9a-fA-F]{3}|[0-9a-fA-F]{6})")


@dataclass(eq=False)
class Cell:
    """What a variable returns to choose its own summary, look and preview.

    `data` is the full result. The table shows `summary_value` if it is given, else the NumPy
    function named by `summary` applied to the data. `background` is a colour, "#ffcc00", "#fc0" or
    three numbers from 0 to 255, and is kept as three integers. `preview` is what opens on a double
    click: numbers in an array of one or two dimensions, or a figure. `units` win over the
    variable's.

    Raises TypeError or ValueError for a colour, bold, units or summary that cannot be right.
    """

    data: object = None
    summary: str | None = None
    summary_value: object = None
    bold: bool | None = None
    background: str | Sequence[int] | None = None
    preview: object = None
    units: str | None = None

    def __post_init__(self) -> None:
        for field in ("summary", "units"):
            text = getattr(self, field)
            if text is not None and not isinstance(text, str):
                raise TypeError(f"Cell({field}={text!r}): give a text or None")
        if self.bold is not None:
            self.bold = _as_bool(self.bold)
        if self.background is not None:
            self.background = parse_colour(self.background)


def _as_bool(value: object) -> bool:
    # The comparison that makes a cell bold is usually NumPy's, whose booleans are not Python's.
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
        return bool(value)
    raise TypeError(f"Cell(bold={value!r}): give True, False or None")


def parse_colour(colour: object) -> tuple[int, int, int]:
    """Turn "#rrggbb", "#rgb" or three whole numbers from 0 to 255 into a tuple of integers."""
    mend = 'give "#rrggbb" or three whole numbers from 0 to 255'
    if isinstance(colour, str):
        match = _HEX.fullmatch(colour)
        if match is None:
            raise ValueError(f"Cell(background={colour!r}): {mend}")
        digits = match[1] if len(match[1]) == 6 else "".join(2 * digit for digit in match[1])
        return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)
    try:
        numbers = list(colour)  # type: ignore[call-overload]
        red, green, blue = (number.__index__() for number in numbers)
    except (TypeError, ValueError, AttributeError):
        raise ValueError(f"Cell(background={colour!r}): {mend}") from None
    if not all(0 <= number <= 255 for number in (red, green, blue)):
        raise ValueError(f"Cell(background={colour!r}): {mend}")
    return red, green, blue
