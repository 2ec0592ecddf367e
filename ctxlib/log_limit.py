"""Keeps the log of a job from filling the disk: of too much output, the first and the last stay."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_MOST = 100 << 20
_KEPT = 10 << 20


@dataclass
class LogLimit:
    """What may be added to the file `log` from now on, in bytes: `most`.

    When it is more, the middle is cut out, so that `kept` stays of its beginning and of its end.
    Whoever writes is not kept from it, and goes on at the new end.
    """

    log: Path
    most: int = _MOST
    kept: int = _KEPT
    _left_out: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Take note of where the log ends now."""
        self._start = self._size()

    def look(self) -> None:
        """Cut the log if it has grown too long; one that cannot be cut is left as it is."""
        size = self._size()
        if size - self._start > self.most:
            # The disk is full, or the file is gone.
            with suppress(OSError):
                self._cut()

    def note(self, text: str) -> None:
        """Add a line of the watcher's own, if there is a log."""
        if self.log.exists():
            with suppress(OSError):
                _append(self.log, _line(text))

    def _size(self) -> int:
        try:
            return self.log.stat().st_size
        except OSError:
            return 0  # nothing has been written yet

    def _cut(self) -> None:
        head = self._start + self.kept
        with self.log.open("r+b") as file:
            file.seek(max(head, file.seek(0, os.SEEK_END) - self.kept))
            tail = file.read()  # with what is written meanwhile
            size = file.tell()
            file.truncate(head)
        # What is written now stands before the tail. No more of that, or the next cut takes it.
        tail = tail[-self.kept :]
        self._left_out += size - head - len(tail)
        words = (
            f"{self._left_out / (1 << 20):.0f} MB of output are left out here: too much for a log"
        )
        _append(self.log, b"\n" + _line(words) + tail)


def _line(text: str) -> bytes:
    return f"# {time.strftime('%H:%M:%S')} {text}\n".encode("utf-8", "backslashreplace")


def _append(log: Path, content: bytes) -> None:
    fd = os.open(log, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)
