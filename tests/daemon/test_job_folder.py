import os
import re

import pytest

from ctxlib.job_folder import attempts
from daemon.jobs import folder


def test_ids_say_when_and_do_not_repeat():
    ids = {folder.new_id(1795223695.0) for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"20261121-011455-[0-9a-f]{6}", one) for one in ids)


def test_request_is_read_as_written_and_replaced_whole(tmp_path):
    job = tmp_path / "jobs" / "j"
    folder.write_request(job, {"id": "j", "run": 1})
    folder.write_request(job, {"id": "j", "run": 2})
    assert folder.read_request(job) == {"id": "j", "run": 2}
    assert [path.name for path in job.iterdir()] == ["job.json"]


@pytest.mark.parametrize("content", [None, b"", b"\0" * 50, b'{"id": "j"', b"[]", b"\xff"])
def test_request_that_is_not_whole_is_none(tmp_path, content):
    if content is not None:
        (tmp_path / "job.json").write_bytes(content)
    assert folder.read_request(tmp_path) is None


def test_attempts_in_order_and_each_made_once(tmp_path):
    for number in (2, 10, 1):
        made = folder.new_attempt(tmp_path, number)
        assert (made / "fragments").is_dir()
    (tmp_path / "job.json").touch()
    assert [path.name for path in attempts(tmp_path)] == ["1", "2", "10"]
    with pytest.raises(FileExistsError):
        folder.new_attempt(tmp_path, 2)
    assert attempts(tmp_path / "missing") == []


def test_dropping_fragments_keeps_journals_and_can_be_repeated(tmp_path):
    for number in (1, 2):
        attempt = folder.new_attempt(tmp_path, number)
        (attempt / "fragments" / "a.h5").touch()
        (attempt / "journal.1.jsonl").touch()
    folder.drop_fragments(tmp_path, 1)
    assert [path.parent.parent.name for path in tmp_path.rglob("a.h5")] == ["2"]
    folder.drop_fragments(tmp_path, 2)
    folder.drop_fragments(tmp_path, 2)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert left == ["1/journal.1.jsonl", "2/journal.1.jsonl"]
    folder.drop_fragments(tmp_path / "missing", 1)


def test_removing_an_attempt(tmp_path):
    attempt = folder.new_attempt(tmp_path, 1)
    folder.remove_attempt(attempt)
    folder.remove_attempt(attempt)
    assert attempts(tmp_path) == []


def test_signature_changes_with_python_files_only(tmp_path):
    context = tmp_path / "context.py"
    context.write_text("1")
    first = folder.sources_signature(tmp_path)
    (tmp_path / "runs.sqlite").touch()
    (tmp_path / "broken_link.py").symlink_to("nowhere")
    assert folder.sources_signature(tmp_path) == first
    os.utime(context, ns=(1, 1))
    second = folder.sources_signature(tmp_path)
    (tmp_path / "helper.py").touch()
    assert len({first, second, folder.sources_signature(tmp_path)}) == 3
