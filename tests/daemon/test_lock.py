"""The lock on a folder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_users_need_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unnamed() -> str:
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr("getpass.getuser", unnamed)
    lock = FolderLock(tmp_path)
    assert lock.acquire("daemon", 12.0)
    assert lock.held is not None
    assert lock.held.user == str(os.getuid())
    lock.release()


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


def test_a_deleted_file_is_made_and_held_anew(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    assert first.acquire("daemon", 1.0)
    assert first.keep()
    (tmp_path / "daemon.lock").unlink()
    assert first.keep()
    assert not second.acquire("daemon", 2.0)
    (tmp_path / "daemon.lock").unlink()
    assert second.acquire("daemon", 3.0)
    assert not first.keep()
    first.release()
    assert second.keep()
    second.release()


def test_of_many_who_race_one_holds_it(tmp_path: Path) -> None:
    race = HOLD.replace('assert lock.acquire("daemon", 1.0)', "sys.stdin.readline()").replace(
        'print("held", flush=True)', 'print(lock.acquire("daemon", 1.0), flush=True)'
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", race, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    answers = [racer.stdout.readline() for racer in racers if racer.stdout is not None]
    assert sorted(answers) == ["False\n"] * 3 + ["True\n"]
    for racer in racers:
        racer.communicate()
