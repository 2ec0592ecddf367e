"""Which names a variable that comes from elsewhere can have in the table and in run files."""

from __future__ import annotations

import re

# Columns that every table has, and what people and the daemon write.
_TAKEN = ("proposal", "run", "start_time", "added_at", "comment", "processing_error")
_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def trouble_with(name: str) -> str | None:
    """Why no variable can be called `name`, in words; None if one can."""
    if _NAME.fullmatch(name) is None:
        return f"no variable can be called {name!r}: use letters, digits, _ and ."
    if name in _TAKEN:
        return f"no variable can be called {name!r}: every table has such a column"
    return None
