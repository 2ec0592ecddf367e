"""The lock on a folder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from daemon.lock import FolderLock

HOLD = """
import sys; from pathlib import Path; from daemon.lock import FolderLock
lock = FolderLock(Path(sys.argv[1])); assert lock.acquire("daemon", 1.0)
print("held", flush=True); sys.stdin.read()
"""


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    assert first.acquire("daemon", 12.0)
    assert not second.acquire("command", 13.0)
    holder = second.holder()
    assert holder is not None
    assert (holder.role, holder.pid, holder.since) == ("daemon", os.getpid(), 12.0)
    first.release()
    assert second.acquire("command", 14.0)
    second.release()


def test_a_killed_holder_frees_it_at_once(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        lock = FolderLock(tmp_path)
        assert not lock.acquire("daemon", 2.0)
        assert str(other.pid) in str(lock.holder())
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert lock.acquire("daemon", 3.0)
        lock.release()
