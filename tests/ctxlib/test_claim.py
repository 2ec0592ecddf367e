import errno
import os
import threading

import pytest

from ctxlib import claim


def test_a_full_disk_leaves_no_claim(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "write", lambda fd, content: 0)
    with pytest.raises(OSError, match="No space left"):
        claim.make(tmp_path, "fork")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
    assert claim.make(tmp_path, "fork") is not None
    assert [path.name for path in tmp_path.iterdir()] == ["claim"]


def test_claims_where_files_cannot_be_linked(tmp_path, monkeypatch):
    def link(*_):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    made = claim.make(tmp_path, "fork")
    assert made is not None
    assert claim.read(tmp_path) == made
    assert claim.make(tmp_path, "fork") is None
    assert [path.name for path in tmp_path.iterdir()] == ["claim"]


def test_of_many_one_claims(tmp_path):
    made = []
    ready = threading.Barrier(16)

    def work():
        ready.wait()
        made.append(claim.make(tmp_path, "fork"))

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([one for one in made if one is not None]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["claim"]


def test_what_a_killed_writer_left_is_removed_and_the_claim_stays(tmp_path):
    assert claim.make(tmp_path, "fork")
    (tmp_path / ".claim.somewhere.7.0a0b0c0d").write_text("")
    claim.remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["claim"]
