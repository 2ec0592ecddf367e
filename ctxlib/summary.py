"""What the table shows for one variable of one run.

Without NumPy, so that who only hands summaries on does not load it.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PLOTLY_PLACEHOLDER = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAADAAAAAkCAMAAAD4m0k4AAAABlBMVEXw8PCgoKDfDqRNAAAAJUlEQVR4nGNgGAWD"
    "FjBCwagGYjUQpXnEaMClaFTDqAZSNQxhAABu8AGxJUDnMgAAAABJRU5ErkJggg=="
)
"""PNG (three grey bars) that stands for a Plotly figure until its thumbnail has been drawn."""


@dataclass(frozen=True)
class Summary:
    """What the table shows for one variable of one run.

    `value` is of Python's own types and fits into SQLite. Bytes are PNG (type None), two
    little-endian doubles (`complex`) or a `.npy` file (`trendline`: float64 of shape (2, n), x
    above y; `numpy`: any other); a `timestamp` is in seconds since the epoch. `method` is the NumPy
    function that made the value; `max_diff` is by how much the data varied. `attributes` may have
    `units`, `bold` and `background` (three integers from 0 to 255).
    """

    value: int | float | bool | str | bytes | None = None
    type: str | None = None
    method: str | None = None
    max_diff: float | None = None
    attributes: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Give the summary as a JSON object without non-finite numbers."""
        return {
            "value": _value_to_json(self.value),
            "type": self.type,
            "method": self.method,
            "max_diff": _value_to_json(self.max_diff),
            "attributes": self.attributes,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Summary:
        """Read what `to_json` gave."""
        return cls(
            value=_value_from_json(data["value"]),
            type=data["type"],
            method=data["method"],
            max_diff=_value_from_json(data["max_diff"]),
            attributes=dict(data["attributes"]),
        )


def _value_to_json(value: int | float | str | bytes | None) -> object:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    return value


def _value_from_json(data: Any) -> Any:
    if isinstance(data, dict):
        return base64.b64decode(data["base64"]) if "base64" in data else float(data["float"])
    return data
