"""What is added to a log that may not be there yet, and out of which the middle may be cut."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from daemon.job_part import CUT

CHUNK = 1 << 20
"""How many bytes of a line to hand out at once."""
SEARCHED = 1 << 20
"""How many bytes before its end a log is searched."""


class LogTail:
    """What was added to a log since it was last asked for; the first time, all that is there.

    The file is opened anew each time, as network filesystems show only then what others wrote.
    """

    def __init__(self, path: Path) -> None:
        """Read the log `path`, once it is there."""
        self._path = path
        self._position = 0
        self._rest = b""

    def skip_to(self, pattern: re.Pattern[bytes]) -> bool:
        """Go on where `pattern` is first found near the log's end; False while it is not there."""
        try:
            with self._path.open("rb") as file:
                begins = max(0, file.seek(0, os.SEEK_END) - SEARCHED)
                file.seek(begins)
                found = pattern.search(file.read(SEARCHED))
        except FileNotFoundError:
            return False
        if found is not None:
            self._position = begins + found.start()
        return found is not None

    def pieces(self) -> Iterator[bytes]:
        """The new lines, the last one as far as it is there; `CUT` where something is missing."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return
        with file:
            if (end := file.seek(0, os.SEEK_END)) < self._position:
                self._position = end
                yield CUT
            file.seek(self._position)
            while piece := file.readline(CHUNK):
                self._position += len(piece)
                yield piece

    def lines(self) -> Iterator[bytes]:
        """The new whole lines, and pieces of those that are longer than `CHUNK`."""
        for piece in self.pieces():
            self._rest = piece if piece is CUT else self._rest + piece
            if self._rest.endswith(b"\n") or len(self._rest) >= CHUNK:
                line, self._rest = self._rest, b""
                yield line
