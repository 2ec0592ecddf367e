"""progress: what a variable that takes long says of itself while it runs."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable

_PAUSE = 0.1
"""Seconds between two reports of one process at least; what comes earlier is left out."""
_LONGEST_TEXT = 200

Report = dict[str, object]

_tell: Callable[[Report], None] | None = None
_pid = 0
_last = -math.inf


def listen(tell: Callable[[Report], None] | None) -> None:
    """From now on have reports of this process told to `tell`; None: to nobody."""
    global _tell, _pid
    _tell, _pid = tell, os.getpid()


def progress(done: float, total: float, text: str = "") -> None:
    """Show how far the variable is that calls it: `done` of `total`, and a few words if wanted.

    It is cheap enough for every turn of a loop: at most ten reports a second are passed on. Outside
    of a job, and in processes that a variable starts, it does nothing. Raises TypeError or
    ValueError for what is no finite number.
    """
    global _last
    report: Report = {"done": _number("done", done), "total": _number("total", total)}
    now = time.monotonic()
    if _tell is None or os.getpid() != _pid or now - _last < _PAUSE:
        return
    _last = now
    _tell({**report, "text": str(text)[:_LONGEST_TEXT]})


def _number(name: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever the user gave
    except (TypeError, ValueError) as error:
        raise TypeError(f"progress: {name}={value!r} is no number") from error
    if not math.isfinite(number):
        raise ValueError(f"progress: {name}={value!r} is not finite")
    return int(number) if number.is_integer() else number
