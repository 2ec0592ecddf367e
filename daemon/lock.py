"""One writer per folder: the kernel's lock on `daemon.lock`, and who says to hold it.

The lock is `flock`, so that it is gone the moment its holder is, however that died. The text in
the file only serves messages.
"""

import fcntl
import json
import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ctxlib.claim import user_name

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
    """The exclusive lock on one database folder; held from `acquire` to `release` or death.

    `held` is who holds the folder by it; None before it was taken.
    """

    def __init__(self, folder: Path) -> None:
        """Prepare the lock of `folder`, which must exist; nothing is taken yet."""
        self._path = folder / "daemon.lock"
        self._fd: int | None = None
        self.held: Holder | None = None

    def acquire(self, role: Role, now: float) -> bool:
        """Take the lock for `role` if it is free; `now` (seconds since the epoch) is noted."""
        fd = self._open()
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        if not self._is_at_path(fd):
            os.close(fd)  # it was deleted meanwhile: the lock is on what is there now
            return False
        self.held = Holder(role, socket.gethostname(), os.getpid(), user_name(), now)
        self._fd = fd
        self._write(json.dumps(asdict(self.held)))
        return True

    def keep(self) -> bool:
        """See that the file that this holds is the one at its path, as anybody may delete that.

        Then another one is made and taken; False when somebody else was faster.
        """
        assert self._fd is not None
        assert self.held is not None
        if self._is_at_path(self._fd):
            return True
        other = FolderLock(self._path.parent)
        if not other.acquire(self.held.role, self.held.since):
            return False
        os.close(self._fd)
        self._fd = other._fd
        return True

    def _write(self, text: str) -> None:
        assert self._fd is not None
        os.ftruncate(self._fd, 0)
        # On a full disk messages name nobody, no more.
        with suppress(OSError):
            os.pwrite(self._fd, text.encode(), 0)

    def _is_at_path(self, fd: int) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(fd))
        except FileNotFoundError:
            return False

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            fd = os.open(self._path, flags | os.O_CREAT | os.O_EXCL, 0o660)
        except FileExistsError:
            return os.open(self._path, flags)
        # Whatever the umask is here: colleagues who may use the folder have to take turns.
        os.fchmod(fd, 0o660)
        return fd

    def exists(self) -> bool:
        """Tell whether the file is there; a holder that lives makes it again within a moment."""
        return self._path.exists()

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
