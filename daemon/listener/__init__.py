"""One program that serves many databases: which ones, what keeps them up, what is handed on.

Every database has a daemon of its own, as if it were alone, so that none can harm another.
"""

from pathlib import Path

NAME = "listener.sqlite"
DATABASE = "runs.sqlite"


def is_listener(folder: Path) -> bool:
    """Whether `folder` is a listener's: a database's folder is that, whatever else is in it."""
    return (folder / NAME).exists() and not (folder / DATABASE).exists()
