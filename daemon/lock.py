"""One writer per folder: the kernel's lock on `daemon.lock`, and who says to hold it.

The lock is `flock`, so that it is gone the moment its holder is, however that died. The text in
the file only serves messages.
"""

import fcntl
import getpass
import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Role = Literal["daemon", "command"]


@dataclass(frozen=True)
class Holder:
    """Who holds a folder: the daemon, or a command that does one thing with it."""

    role: Role
    host: str
    pid: int
    user: str
    since: float

    def __str__(self) -> str:
        what = "a daemon" if self.role == "daemon" else "a command"
        return f"{what} on {self.host} (process {self.pid} of {self.user})"


class FolderLock:
    """The exclusive lock on one database folder; held from `acquire` to `release` or death."""

    def __init__(self, folder: Path) -> None:
        """Prepare the lock of `folder`, which must exist; nothing is taken yet."""
        self._path = folder / "daemon.lock"
        self._fd: int | None = None

    def acquire(self, role: Role, now: float) -> bool:
        """Take the lock for `role` if it is free; `now` (seconds since the epoch) is noted."""
        fd = self._open()
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        holder = Holder(role, socket.gethostname(), os.getpid(), getpass.getuser(), now)
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(asdict(holder)).encode(), 0)
        self._fd = fd
        return True

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            fd = os.open(self._path, flags | os.O_CREAT | os.O_EXCL, 0o660)
        except FileExistsError:
            return os.open(self._path, flags)
        # Whatever the umask is here: colleagues who may use the folder have to take turns.
        os.fchmod(fd, 0o660)
        return fd

    def holder(self) -> Holder | None:
        """Who wrote itself into the file last; None when nobody has, or just now."""
        try:
            return Holder(**json.loads(self._path.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def release(self) -> None:
        """Give the lock back; without effect when it is not held."""
        if self._fd is not None:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None
