"""Who is at work on an attempt: the file `claim`, which can be made only once."""

import errno
import getpass
import json
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from ctxlib import processes
from ctxlib.whole_file import write_whole

# A file of this name in the attempt's folder asks whoever claimed it for its end; its text is why.
STOP_FILE = "stop"

# The mode of a claim that was made with its results, elsewhere: there is nothing left to start.
SUBMITTED = "submitted"

# The environment variable with what a scheduler calls the job that this process is in, for people.
PLACE = "RUNTABLE_PLACE"

NAME = "claim"

# What filesystems without links answer.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}


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


def make(
    attempt_dir: Path, mode: str, clock: Callable[[], float] = time.time, *, name: str = NAME
) -> Claim | None:
    """Claim an attempt for this process, in the file `name`; None when somebody already has.

    Raises OSError, with nothing claimed, when it cannot be written: the disk is full, say.
    """
    me = processes.read(os.getpid())
    assert me is not None, "this process is not in /proc"
    claim = Claim(
        host=processes.host(),
        boot_id=processes.boot_id(),
        pid=me.pid,
        pid_start=me.start,
        user=user_name(),
        mode=mode,
        time=clock(),
    )
    return claim if _publish(attempt_dir / name, json.dumps(asdict(claim)).encode()) else None


def read(attempt_dir: Path, name: str = NAME) -> Claim | None:
    """The claim of an attempt; None when there is none, or its writer was killed in between."""
    try:
        return Claim(**json.loads((attempt_dir / name).read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def exists(attempt_dir: Path) -> bool:
    """Tell whether the attempt is claimed, be the claim whole or not."""
    return (attempt_dir / NAME).exists()


def request_stop(attempt_dir: Path, reason: str) -> None:
    """Ask whoever watches the attempt, on whatever host, to end it with all its processes."""
    write_whole(attempt_dir / STOP_FILE, reason.encode())


def stop_reason(attempt_dir: Path) -> str | None:
    """Why the attempt is to end; None when nobody has asked for that."""
    try:
        return (attempt_dir / STOP_FILE).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


def remove_leftovers(attempt_dir: Path) -> None:
    """Remove claims that were never published, as their writers were killed; none may be left."""
    for leftover in attempt_dir.glob(f".{NAME}.*"):
        leftover.unlink(missing_ok=True)


def _publish(path: Path, content: bytes) -> bool:
    """Make the file `path` unless there is one; it is never there without its content."""
    new = path.with_name(f".{path.name}.{processes.host()}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        _write_new(new, content)
        os.link(new, path)
    except FileExistsError:
        # The first answer can be lost on NFS, and this be the one to the question repeated.
        return new.stat().st_nlink > 1
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _publish_in_place(path, content)
    finally:
        new.unlink(missing_ok=True)
    return True


def _publish_in_place(path: Path, content: bytes) -> bool:
    """As `_publish`, where files cannot be linked; who is killed in between leaves it empty."""
    try:
        _write_new(path, content)
    except FileExistsError:
        return False
    return True


def _write_new(path: Path, content: bytes) -> None:
    """Write a file that must not be there yet, whole or not at all."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        if os.write(fd, content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)


def user_name() -> str:
    """Who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # Containers run under numbers that have no name.
        return str(os.getuid())
