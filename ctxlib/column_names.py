"""Which names a variable can have: each is a column of the table and a path in run files."""

from __future__ import annotations

# Columns that every table has, and what people and the daemon write.
_TAKEN = ("proposal", "run", "start_time", "added_at", "comment", "processing_error")


def is_name(text: str) -> bool:
    """Tell whether `text` can be a name: identifiers, with dots between them."""
    return all(part.isidentifier() for part in text.split("."))


def is_taken(name: str) -> bool:
    """Tell whether a variable `name` would hide a column that every table has.

    SQLite does not tell columns apart by their case.
    """
    return name.lower() in _TAKEN


def trouble_with(name: str) -> str | None:
    """Why no variable that comes from elsewhere can be called `name`, in words; None if one can."""
    if not is_name(name):
        return f"no variable can be called {name!r}: use letters, digits, _ and ."
    if is_taken(name):
        return f"no variable can be called {name!r}: every table has such a column"
    return None
