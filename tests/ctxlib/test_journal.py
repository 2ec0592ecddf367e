import errno
import json
import os

import pytest

from ctxlib import journal
from ctxlib.journal import Entry, JournalReader, JournalWriter


def test_lines_come_back_in_order_of_time(tmp_path):
    watcher = JournalWriter(tmp_path / "journal.0.jsonl")
    runner = JournalWriter(tmp_path / "journal.1.jsonl")
    watcher.write("claimed", host="a")
    runner.write("started", variable="x")
    runner.write("finished", variable="x", data={"n": 1})
    watcher.write("ended", status="finished")
    reader = JournalReader(tmp_path)
    entries = reader.read()
    assert [e.kind for e in entries] == ["claimed", "started", "finished", "ended"]
    assert entries[2].fields == {"variable": "x", "data": {"n": 1}}
    assert [e.runner for e in entries] == [0, 1, 1, 0]
    assert reader.read() == []


def test_order_within_a_file_is_kept_when_the_clock_goes_backwards(tmp_path):
    lines = [{"kind": "a", "time": 9.0}, {"kind": "b", "time": 3.0}]
    (tmp_path / "journal.1.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    (tmp_path / "journal.2.jsonl").write_text('{"kind":"c","time":5.0}\n')
    kinds = [e.kind for e in JournalReader(tmp_path).read()]
    assert kinds.index("a") < kinds.index("b")


def test_torn_last_line_is_left_until_it_is_whole(tmp_path):
    path = tmp_path / "journal.1.jsonl"
    path.write_bytes(b'{"kind":"begin","time":1.0}\n{"kind":"fin')
    reader = JournalReader(tmp_path)
    assert [e.kind for e in reader.read()] == ["begin"]
    with path.open("ab") as file:
        file.write(b'ished","time":2.0}\n')
    assert reader.read() == [Entry("journal.1.jsonl", "finished", {}, 2.0)]


def test_a_damaged_line_does_not_hide_the_others(tmp_path):
    path = tmp_path / "journal.1.jsonl"
    path.write_bytes(b'{"kind":"a","time":1.0}\n\0\0\0\n[]\n{"kind":"b","time":2.0}\n')
    assert [e.kind for e in JournalReader(tmp_path).read()] == ["a", "b"]


def test_reading_goes_on_from_kept_offsets(tmp_path):
    writer = JournalWriter(tmp_path / "journal.1.jsonl")
    writer.write("begin")
    first = JournalReader(tmp_path)
    first.read()
    writer.write("end")
    second = JournalReader(tmp_path, json.loads(json.dumps(first.offsets)))
    assert [e.kind for e in second.read()] == ["end"]


def test_each_line_is_one_write_and_one_wake(tmp_path, monkeypatch):
    wakes = []
    writer = JournalWriter(tmp_path / "journal.1.jsonl", lambda: wakes.append(1))
    writes = []
    real = os.write
    monkeypatch.setattr(journal, "_write", lambda fd, data: writes.append(data) or real(fd, data))
    writer.write("begin", text="two\nlines")
    assert len(writes) == len(wakes) == 1
    assert writes[0].count(b"\n") == 1


def test_a_line_cut_by_a_full_disk_is_taken_back(tmp_path, monkeypatch):
    path = tmp_path / "journal.1.jsonl"
    writer = JournalWriter(path)
    writer.write("begin")
    whole = path.read_bytes()
    real = os.write
    monkeypatch.setattr(journal, "_write", lambda fd, data: real(fd, data[:7]))
    with pytest.raises(OSError, match="No space") as caught:
        writer.write("finished", variable="x")
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == whole


def test_a_journal_that_was_closed_is_opened_again(tmp_path):
    path = tmp_path / "journal.1.jsonl"
    writer = JournalWriter(path)
    writer.write("begin")
    number = os.open(tmp_path, os.O_RDONLY)
    os.close(number)
    os.close(number - 1)
    with (tmp_path / "taken").open("wb") as taken:
        assert taken.fileno() == number - 1  # it has the journal's number now
        writer.write("finished")
    writer.write("end")
    assert writer.reopened
    assert (tmp_path / "taken").read_bytes() == b""
    assert [entry.kind for entry in JournalReader(tmp_path).read()] == ["begin", "finished", "end"]
    writer.close()


def test_non_finite_numbers_are_refused(tmp_path):
    writer = JournalWriter(tmp_path / "journal.1.jsonl")
    with pytest.raises(ValueError, match="not JSON compliant"):
        writer.write("finished", value=float("nan"))


def test_other_files_and_a_missing_folder_are_no_journal(tmp_path):
    (tmp_path / "claim").write_text("{}")
    assert JournalReader(tmp_path).read() == []
    assert JournalReader(tmp_path / "absent").read() == []
