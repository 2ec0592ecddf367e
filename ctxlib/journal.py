"""What a job says, line by line: the writer and the reader of `journal.<n>.jsonl`.

A journal is append-only JSON lines, one `write()` each, so that a reader on this or another host
sees whole lines or a torn last one, which it leaves for the next time. File 0 belongs to the
process that watches the attempt, file n to its runner n; nobody writes to another's file.
"""

import errno
import heapq
import json
import os
import re
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# By names of our own: a variable may put something else in place of those in the modules.
_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
_write, _now = os.write, time.time

Wake = Callable[[], None]

_NAME = re.compile(r"journal\.(\d+)\.jsonl")


@dataclass(frozen=True)
class Entry:
    """One line: the file it stands in (`journal.1.jsonl`), its kind, other fields, Unix time."""

    file: str
    kind: str
    fields: dict[str, Any]
    time: float

    @property
    def runner(self) -> int:
        """Number of the file, 0 for the watching process."""
        return _number(self.file)


def file_name(number: int) -> str:
    """Name of the journal of runner `number`, or of the watching process for 0."""
    return f"journal.{number}.jsonl"


def _number(name: str) -> int:
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is no journal; a journal is called journal.<number>.jsonl")
    return int(match[1])


def waker(channel: socket.socket, attempt_dir: Path) -> Wake:
    """What sends the job's id over a datagram socket, without waiting and whatever comes of it."""
    job = attempt_dir.parent.name.encode()

    def wake() -> None:
        # Nobody may listen, or be behind; readers look at the journals by themselves in a while.
        with suppress(OSError):
            channel.send(job, socket.MSG_DONTWAIT)

    return wake


class JournalWriter:
    """Appends lines to one journal; `wake` is called after each of them.

    `reopened` tells that somebody else in this process had closed it.
    """

    def __init__(self, path: Path, wake: Wake | None = None) -> None:
        self._path = path
        self._wake = wake
        self.reopened = False
        self._open()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(self._path, flags, 0o666)
        self._file = _identity(self._fd)

    def write(self, kind: str, **fields: object) -> None:
        """Append one line. OSError when it cannot be written whole; nothing of it then stays.

        The fields must be JSON without non-finite numbers (ValueError).
        """
        entry = {"kind": kind, "time": _now(), **fields}
        line = _encode(entry).encode() + b"\n"
        if _identity(self._fd) != self._file:
            # Its number may be another file's by now, which must get none of this.
            self._open()
            self.reopened = True
        written = _write(self._fd, line)
        if written < len(line):
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        if self._wake is not None:
            self._wake()

    def touch(self) -> None:
        """Give a sign of life that takes no space: the file's time changes."""
        os.utime(self._fd)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def _identity(fd: int) -> tuple[int, int] | None:
    """What file a descriptor is of; None if it is closed."""
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


class JournalReader:
    """Reads what is new in all journals of an attempt folder.

    `offsets` (bytes read of each file) is plain JSON: keep it to go on later from there.
    """

    def __init__(self, attempt_dir: Path, offsets: Mapping[str, int] | None = None) -> None:
        self._dir = attempt_dir
        self.offsets: dict[str, int] = dict(offsets or {})

    def read(self) -> list[Entry]:
        """Return the complete lines written since the last call, the oldest first.

        Files are reopened at each call, for what other hosts wrote to show. File 0 is read first:
        what it says about a runner's death comes after all that this runner wrote, so the lines
        of the runner are then in the same answer, and before it.
        """
        read = [self._read_file(name) for name in self._names()]
        return list(heapq.merge(*read, key=lambda entry: entry.time))

    def read_watcher(self) -> list[Entry]:
        """Return what is new in file 0 alone, which is short however much the runners write."""
        name = file_name(0)
        return self._read_file(name) if (self._dir / name).exists() else []

    def _names(self) -> list[str]:
        try:
            names = os.listdir(self._dir)  # noqa: PTH208 - names are all that is needed
        except FileNotFoundError:
            return []
        return sorted(filter(_NAME.fullmatch, names), key=_number)

    def _read_file(self, name: str) -> list[Entry]:
        offset = self.offsets.get(name, 0)
        with (self._dir / name).open("rb") as file:
            file.seek(offset)
            new = file.read()
        complete = new[: new.rfind(b"\n") + 1]
        self.offsets[name] = offset + len(complete)
        entries = (_parse(name, line) for line in complete.splitlines())
        return [entry for entry in entries if entry is not None]


def _parse(name: str, line: bytes) -> Entry | None:
    """One line as an entry; None for one that a crash of the host left damaged.

    What it announced then counts as not done, and is computed again.
    """
    try:
        fields = json.loads(line)
        return Entry(name, fields.pop("kind"), fields, fields.pop("time"))
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
