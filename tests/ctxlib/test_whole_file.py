"""Files that are replaced as a whole."""

import os
from pathlib import Path

import pytest

from ctxlib.whole_file import remove_leftovers, temporary_name, write_whole


def test_a_file_is_replaced_with_its_permissions(tmp_path: Path):
    path = tmp_path / "file"
    before = os.umask(0o027)
    try:
        write_whole(path, b"one")
        assert path.stat().st_mode & 0o777 == 0o640
        write_whole(path, b"two", mode=0o666, durable=True)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o666
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "file"
    path.write_bytes(b"one")

    def full(fd: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_whole(path, b"two", durable=True)
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_removed(tmp_path: Path):
    path = tmp_path / "file"
    for name in (path, temporary_name(path), temporary_name(tmp_path / "other")):
        name.touch()
    remove_leftovers(path)
    left = sorted(tmp_path.iterdir())
    assert [found.name[:6] for found in left] == [".other", "file"]
