"""Who is at work on an attempt: the file `claim`, which can be made only once."""

import getpass
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from ctxlib import processes

# A file of this name in the attempt's folder asks whoever claimed it for its end; its text is why.
STOP_FILE = "stop"

# The mode of a claim that was made with its results, elsewhere: there is nothing left to start.
SUBMITTED = "submitted"

_NAME = "claim"


@dataclass(frozen=True)
class Claim:
    """A process on a host during one of its boots; `pid_start` is in clock ticks since boot.

    `mode` says how runners are started (`fork`, `fresh`), or `revoked`: nobody shall start any;
    or `submitted`: the results came with it.
    """

    host: str
    boot_id: str
    pid: int
    pid_start: int
    user: str
    mode: str
    time: float

    def here(self) -> bool:
        """Tell whether it was made on this host, in this boot or an earlier one."""
        return self.host == processes.host()

    def booted_since(self) -> bool:
        """Tell whether this host was booted after the claim was made on it.

        What was written without being synced may then have holes, whatever it looks like. Results
        that were submitted are synced before anybody hears of them.
        """
        synced = self.mode == SUBMITTED
        return self.here() and self.boot_id != processes.boot_id() and not synced

    def alive(self) -> bool:
        """Tell whether the process that claimed still runs on this host."""
        same_boot = self.here() and self.boot_id == processes.boot_id()
        return same_boot and processes.is_alive(self.pid, self.pid_start)


def make(attempt_dir: Path, mode: str, clock: Callable[[], float] = time.time) -> Claim | None:
    """Claim an attempt for this process; None when somebody already has."""
    me = processes.read(os.getpid())
    assert me is not None, "this process is not in /proc"
    claim = Claim(
        host=processes.host(),
        boot_id=processes.boot_id(),
        pid=me.pid,
        pid_start=me.start,
        user=_user(),
        mode=mode,
        time=clock(),
    )
    try:
        fd = os.open(attempt_dir / _NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return None
    try:
        os.write(fd, json.dumps(asdict(claim)).encode())
    finally:
        os.close(fd)
    return claim


def read(attempt_dir: Path) -> Claim | None:
    """The claim of an attempt; None when there is none, or its writer was killed in between."""
    try:
        return Claim(**json.loads((attempt_dir / _NAME).read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def exists(attempt_dir: Path) -> bool:
    """Tell whether the attempt is claimed, be the claim whole or not."""
    return (attempt_dir / _NAME).exists()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # Containers run under numbers that have no name.
        return str(os.getuid())
