"""Show what is added to a log file, while it is."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

CHECK_SECONDS = 0.1
"""Short enough to seem immediate to a reader."""


@contextmanager
def shown(log: Path) -> Iterator[None]:
    """Copy what is appended to `log` within the block to standard output.

    The file need not be there yet. Returns when all that was written in the block is shown.
    """
    done = threading.Event()
    start = log.stat().st_size if log.exists() else 0
    thread = threading.Thread(target=_copy, args=(log, start, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _copy(log: Path, offset: int, done: threading.Event) -> None:
    ended = False
    while not ended:
        ended = done.wait(CHECK_SECONDS)  # looked at before reading: the last look sees all
        if log.exists():
            # Opened anew each time, as a network filesystem may show an open file's old end.
            with log.open("rb") as file:
                file.seek(offset)
                added = file.read()
            offset += len(added)
            if added:
                click.echo(added, nl=False)
