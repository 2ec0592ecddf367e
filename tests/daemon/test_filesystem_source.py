import asyncio
import logging
import os
import shutil
import sqlite3
from contextlib import asynccontextmanager
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from queue_helpers import eventually

from ctxlib.run_pattern import DEFAULT, RunPattern
from daemon.database import Database
from daemon.events import filesystem_source, watch
from daemon.events.filesystem import (
    event_key,
    existing_runs,
    fingerprint,
    present_events,
)
from daemon.events.filesystem_source import FilesystemSource
from daemon.events.inbox import EVENT_TABLES, Inbox
from daemon.events.settler import EMPTY_SECONDS, Settler, Verdict

RUN = ("raw", 42)


# Fingerprints


def write(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_fingerprint_notices_names_sizes_times_and_folders(tmp_path):
    folder = tmp_path / "r0042"
    first, second = write(folder / "a.h5"), write(folder / "b.h5")
    os.utime(first, ns=(1, 10**18))
    os.utime(second, ns=(1, 10**18))
    seen = [fingerprint(folder)]
    assert fingerprint(folder) == seen[0]

    def changed():
        seen.append(fingerprint(folder))
        return len(set(seen)) == len(seen)

    os.utime(first, ns=(1, 10**18 + 1))
    assert changed()
    first.write_bytes(b"xy")
    os.utime(first, ns=(1, 10**18 + 1))
    assert changed()
    second.rename(folder / "c.h5")
    assert changed()
    deeper = write(folder / "deeper" / "d.h5")
    os.utime(deeper, ns=(1, 10**18))
    assert changed()
    deeper.write_bytes(b"xyz")
    assert changed()


def test_what_extra_data_leaves_in_a_run_does_not_count(tmp_path):
    folder = tmp_path / "r0042"
    write(folder / "a.h5")
    before = fingerprint(folder)
    write(folder / "karabo_data_map.json")
    write(folder / "karabo_data_map.jsonh2213k59")  # of a process that was killed as it wrote
    assert fingerprint(folder) == before


def test_nothing_has_no_fingerprint(tmp_path):
    assert fingerprint(tmp_path / "missing") is None
    assert fingerprint(tmp_path) is None
    (tmp_path / "empty folder").mkdir()
    assert fingerprint(tmp_path) is None
    assert fingerprint(write(tmp_path / "file")) is None


def test_links_count_by_their_target_even_when_it_is_away(tmp_path):
    folder, target = tmp_path / "r0042", tmp_path / "elsewhere.h5"
    folder.mkdir()
    (folder / "a.h5").symlink_to(target)
    away = fingerprint(folder)
    target.write_bytes(b"x")
    assert away not in (None, fingerprint(folder))


def test_existing_runs_by_run_and_raw_first(tmp_path):
    for name in ("raw/r0002", "raw/r0001", "proc/r0001", "raw/notes"):
        (tmp_path / name).mkdir(parents=True)
    write(tmp_path / "raw/README")
    write(tmp_path / "raw/r0003")  # a file
    found = [(data, run) for data, run, _ in existing_runs(tmp_path, DEFAULT)]
    assert found == [("raw", 1), ("proc", 1), ("raw", 2)]
    assert existing_runs(tmp_path / "no such proposal", DEFAULT) == []


def test_runs_that_cannot_be_read_have_no_event_yet(tmp_path, monkeypatch):
    write(tmp_path / "raw/r0001/a.h5")
    write(tmp_path / "raw/r0002/a.h5")

    def refuse(folder):
        if folder.name == "r0001":
            raise PermissionError(13, "Permission denied", str(folder))
        return fingerprint(folder)

    monkeypatch.setattr("daemon.events.filesystem.fingerprint", refuse)
    assert [event.run for event in present_events(tmp_path, DEFAULT, 1234, 0.0)] == [2]


# The settler

changes = st.lists(
    st.tuples(
        st.floats(0.05, 30),  # pause before it
        st.sampled_from([None, "a", "b", "c", "d"]),  # what the folder becomes
    ),
    max_size=12,
)


@given(changes=changes, poll=st.floats(0.05, 3), settle=st.floats(0, 12))
def test_settler_ends_with_one_event_of_the_final_state(changes, poll, settle):
    """Drive it as the source does: touched by each change, observed at each poll."""
    times, at = [], 0.0
    for pause, state in [(0.05, "first"), *changes]:
        at += pause
        times.append((at, state))
    end = at + max(settle, EMPTY_SECONDS) + 3 * poll
    settler, events, pending = Settler({}), [], list(times)
    now, state, changed_at = 0.0, None, 0.0
    while now <= end:
        while pending and pending[0][0] <= now:
            changed_at, new = pending.pop(0)
            state = new
            settler.touch(RUN)
        for run in settler.watched:
            if settler.observe(run, state, now, settle) is Verdict.SETTLED:
                events.append((now, state))
                assert now - changed_at >= settle or _seen_before(times, changed_at, state)
                settler.stored(run, state)
        now += poll
    assert settler.watched == []
    assert state is None or events[-1][1] == state
    for (_, one), (_, following) in pairwise(events):
        assert one != following  # never the same state twice in a row


def _seen_before(times, changed_at, state):
    """Whether a change between two polls led back to the state that was seen before it."""
    index = [at for at, _ in times].index(changed_at)
    return any(earlier == state for _, earlier in times[:index])


def test_settler_does_not_settle_while_it_grows():
    settler = Settler({})
    settler.touch(RUN)
    for second in range(100):
        assert settler.observe(RUN, str(second), float(second), 2) is Verdict.CHANGING
    assert settler.observe(RUN, "99", 100.9, 2) is Verdict.CHANGING
    assert settler.observe(RUN, "99", 101.0, 2) is Verdict.SETTLED
    assert settler.observe(RUN, "99", 103.0, 2) is Verdict.SETTLED  # until it is stored
    settler.stored(RUN, "99")
    assert settler.watched == []
    settler.touch(RUN)
    assert settler.observe(RUN, "99", 200.0, 2) is Verdict.KNOWN
    settler.touch(RUN)
    assert settler.observe(RUN, "100", 300.0, 2) is Verdict.CHANGING
    assert settler.observe(RUN, "100", 302.0, 2) is Verdict.SETTLED


def test_settler_knows_the_events_of_before():
    settler = Settler({RUN: "a"})
    settler.compare(RUN, "a")
    assert settler.watched == []
    settler.compare(RUN, "b")
    assert settler.watched == [RUN]


def test_marker_settles_once():
    settler = Settler({})
    settler.touch(RUN)
    assert settler.observe(RUN, "a", 0.0, 10) is Verdict.CHANGING
    assert settler.observe(RUN, "am", 0.5, 10, complete=True) is Verdict.SETTLED
    settler.stored(RUN, "am", complete=True)
    settler.touch(RUN)
    assert settler.observe(RUN, "ambm", 1.0, 10, complete=True) is Verdict.CHANGING
    assert settler.observe(RUN, "ambm", 11.0, 10, complete=True) is Verdict.SETTLED
    settler.stored(RUN, "ambm", complete=True)
    settler.touch(RUN)
    assert settler.observe(RUN, "a", 12.0, 10) is Verdict.CHANGING  # copied anew
    assert settler.observe(RUN, "am2", 13.0, 10, complete=True) is Verdict.SETTLED


def test_empty_for_long_is_empty_until_something_happens():
    settler = Settler({})
    settler.touch(RUN)
    assert settler.observe(RUN, None, 0.0, 0) is Verdict.CHANGING
    assert settler.observe(RUN, None, EMPTY_SECONDS, 0) is Verdict.EMPTY
    assert settler.watched == []


# The source, on real folders


class Kept:
    """An inbox on disk, and the source's log."""

    def __init__(self, inbox):
        self.inbox, self.events, self.failures = inbox, [], 0

    async def store(self, event):
        if self.failures:
            self.failures -= 1
            raise sqlite3.OperationalError("database or disk is full")
        if not await self.inbox.store(event):
            return False
        self.events.append((event.data, event.run))
        return True


@pytest.fixture
async def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(filesystem_source, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(filesystem_source, "RETRY_SECONDS", 0.05)
    database = Database(tmp_path / "daemon.sqlite", migrations=[EVENT_TABLES], wal=True)
    yield Kept(Inbox(database))
    await database.close()


@pytest.fixture
def proposal(tmp_path):
    folder = tmp_path / "p001234"
    (folder / "raw").mkdir(parents=True)
    (folder / "proc").mkdir()
    return folder


@asynccontextmanager
async def watching(proposal, kept, settle_seconds=0.2, marker_file=None, pattern=DEFAULT):
    settings = SimpleNamespace(settle_seconds=settle_seconds, marker_file=marker_file)
    source = FilesystemSource(
        proposal,
        1234,
        pattern=pattern,
        settings=lambda: settings,
        store=kept.store,
        last_keys=kept.inbox.last_keys,
        log=logging.getLogger("source"),
    )
    task = asyncio.create_task(source.run())
    try:
        yield source
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled(), task.exception()


async def test_a_run_that_arrives_and_one_that_grows_again(proposal, kept):
    async with watching(proposal, kept):
        file = write(proposal / "raw/r0042/a.h5")
        await eventually(lambda: kept.events == [("raw", 42)])
        write(proposal / "proc/r0042/a.h5")
        await eventually(lambda: kept.events[1:] == [("proc", 42)])
        with file.open("ab") as grown:
            grown.write(b"more")
        await eventually(lambda: kept.events[2:] == [("raw", 42)])


async def test_a_growing_run_is_left_alone(proposal, kept):
    async with watching(proposal, kept, settle_seconds=1.0):
        file = write(proposal / "raw/r0042/a.h5")
        for size in range(13):
            await asyncio.sleep(0.1)
            file.write_bytes(b"x" * size)
            assert kept.events == []
        await eventually(lambda: kept.events)
    assert kept.events == [("raw", 42)]


async def test_marker_file_saves_waiting(proposal, kept):
    async with watching(proposal, kept, settle_seconds=3600, marker_file="done.txt"):
        write(proposal / "raw/r0001/a.h5")
        write(proposal / "raw/r0002/a.h5")
        write(proposal / "raw/r0002/done.txt")
        await eventually(lambda: kept.events == [("raw", 2)])


async def test_start_finds_what_was_missed_and_nothing_twice(proposal, kept):
    for run in (1, 2, 3):
        write(proposal / f"raw/r000{run}/a.h5")
    await kept.inbox.mark_seen(present_events(proposal, DEFAULT, 1234, 0.0))
    write(proposal / "raw/r0002/b.h5")
    write(proposal / "raw/r0004/a.h5")
    async with watching(proposal, kept):
        await eventually(lambda: len(kept.events) == 2)
    async with watching(proposal, kept):
        write(proposal / "raw/r0005/a.h5")
        await eventually(lambda: len(kept.events) == 3)
    assert sorted(kept.events) == [("raw", 2), ("raw", 4), ("raw", 5)]


async def test_proposal_without_raw_and_raw_that_is_replaced(proposal, kept, caplog):
    shutil.rmtree(proposal)
    caplog.set_level(logging.INFO, "source")
    async with watching(proposal, kept) as source:
        await eventually(lambda: f"{proposal}/raw: No such file or directory" in caplog.text)
        assert "not there yet" in source.describe()
        write(proposal / "raw/r0001/a.h5")
        await eventually(lambda: kept.events == [("raw", 1)])
        assert f"{proposal / 'raw'} (inotify)" in source.describe()
        (proposal / "raw").rename(proposal / "old")
        await eventually(lambda: caplog.text.count("raw: No such file") == 2)
        write(proposal / "raw/r0002/a.h5")
        await eventually(lambda: kept.events == [("raw", 1), ("raw", 2)])


async def test_stray_names_empty_and_vanishing_runs_are_told_once(
    proposal, kept, caplog, monkeypatch
):
    monkeypatch.setattr("daemon.events.settler.EMPTY_SECONDS", 0.1)
    write(proposal / "raw/README")
    (proposal / "raw/r0001").mkdir()
    async with watching(proposal, kept, settle_seconds=0.3):
        write(proposal / "raw/test/a.h5")
        write(proposal / "raw/test/b.h5")
        file = write(proposal / "raw/r0002/a.h5")
        await eventually(lambda: "raw/test is left alone: not the name of a run" in caplog.text)
        shutil.rmtree(file.parent)
        await eventually(lambda: "raw/r0002 is no folder (any more)" in caplog.text)
        await eventually(lambda: "raw/r0001 has no files; waiting for them" in caplog.text)
        write(proposal / "raw/r0001/a.h5")
        await eventually(lambda: kept.events == [("raw", 1)])
    for told in ("README is left alone", "test is left alone", "r0001 has no files"):
        assert caplog.text.count(told) == 1


# watchdog says so when it meets a new folder of a new folder twice, and goes on.
@pytest.mark.filterwarnings("ignore:Callback with id:RuntimeWarning")
@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        ("{data}/visit/{run:03d}", "raw/visit/007", "proc/visit/007"),
        ("{data}_{run}", "raw_7", "proc_7"),
        ("scans/{run}/{data}", "scans/7/raw", "scans/7/proc"),
    ],
)
async def test_runs_in_other_folders(proposal, kept, caplog, monkeypatch, text, first, second):
    monkeypatch.setattr("daemon.events.settler.EMPTY_SECONDS", 0.1)
    pattern = RunPattern(text)
    write(proposal / first / "a.h5")
    assert [found[:2] for found in existing_runs(proposal, pattern)] == [("raw", 7)]
    write(proposal / "raw/r0001/a.h5")
    write(pattern.root("raw", proposal) / "notes/readme.txt")
    async with watching(proposal, kept, pattern=pattern) as source:
        await eventually(lambda: kept.events == [("raw", 7)])
        write(proposal / second / "a.h5")
        await eventually(lambda: kept.events == [("raw", 7), ("proc", 7)])
        write(proposal / pattern.folder("raw", 12) / "a.h5")
        await eventually(lambda: kept.events[2:] == [("raw", 12)])
        await eventually(lambda: not source._settler.watched)
        assert str(pattern.root("raw", proposal)) in source.describe()
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    stray = pattern.root("raw", proposal).relative_to(proposal) / "notes"
    assert [line for line in told if "notes" in line] == [
        f"{stray} is left alone: not the name of a run"
    ]
    assert not [line for line in told if "is no folder" in line]


async def test_runs_beside_the_database_wake_nobody_for_it(proposal, kept, caplog):
    pattern = RunPattern("run{run:04d}")
    write(proposal / "usr/Shared/amore/amore.log")
    async with watching(proposal, kept, pattern=pattern) as source:
        await eventually(lambda: "usr is left alone" in caplog.text)
        write(proposal / "run0042/a.h5")
        await eventually(lambda: kept.events == [("raw", 42)])
        await eventually(lambda: not source._settler.watched)
        write(proposal / "usr/Shared/amore/amore.log", b"more")
        source._hint("raw", "usr")
        assert source._hints == set()
        assert source.describe() == f"filesystem: {proposal} (inotify)"
    assert caplog.text.count("usr is left alone") == 1


async def test_an_unreadable_run_does_not_stop_the_others(proposal, kept, caplog, monkeypatch):
    def refuse(folder):
        if folder.name == "r0001":
            raise PermissionError(13, "Permission denied", str(folder))
        return fingerprint(folder)

    monkeypatch.setattr(filesystem_source, "fingerprint", refuse)
    monkeypatch.setattr("daemon.events.settler.EMPTY_SECONDS", 0.1)
    write(proposal / "raw/r0001/a.h5")
    write(proposal / "raw/r0002/a.h5")
    async with watching(proposal, kept):
        await eventually(lambda: kept.events == [("raw", 2)])
        await eventually(lambda: "r0001 cannot be read: Permission denied" in caplog.text)


async def test_a_run_that_becomes_readable_is_found_soon(proposal, kept, caplog, monkeypatch):
    closed = True

    def refuse(folder):
        if closed:
            raise PermissionError(13, "Permission denied", str(folder))
        return fingerprint(folder)

    monkeypatch.setattr(filesystem_source, "fingerprint", refuse)
    monkeypatch.setattr("daemon.events.settler.EMPTY_SECONDS", 0.1)
    write(proposal / "raw/r0001/a.h5")
    async with watching(proposal, kept):
        await eventually(lambda: "r0001 cannot be read: Permission denied" in caplog.text)
        closed = False
        await eventually(lambda: kept.events == [("raw", 1)])


async def test_an_event_that_cannot_be_stored_is_stored_later(proposal, kept, caplog):
    kept.failures = 2
    write(proposal / "raw/r0001/a.h5")
    async with watching(proposal, kept):
        await eventually(lambda: kept.events == [("raw", 1)])
    assert "raw/r0001 has settled, but: database or disk is full; trying again" in caplog.text


async def test_folders_that_other_hosts_write_to_are_polled(proposal, kept, monkeypatch):
    monkeypatch.setattr(watch, "is_network", lambda path: True)
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.1)
    write(proposal / "raw/r0001/a.h5")
    async with watching(proposal, kept) as source:
        await eventually(lambda: kept.events == [("raw", 1)])
        assert "polling" in source.describe()
        write(proposal / "raw/r0001/b.h5")
        await eventually(lambda: kept.events == [("raw", 1)] * 2)
        write(proposal / "raw/r0002/a.h5")
        await eventually(lambda: kept.events[2:] == [("raw", 2)])


async def test_without_room_for_inotify_folders_are_polled(proposal, kept, monkeypatch, caplog):
    class Full(watch.Observer):
        def start(self):
            raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(watch, "Observer", Full)
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.1)
    async with watching(proposal, kept):
        write(proposal / "raw/r0001/a.h5")
        await eventually(lambda: kept.events == [("raw", 1)])
    assert "raise fs.inotify.max_user_watches" in caplog.text


async def test_a_change_without_any_hint_is_found_by_the_rescan(proposal, kept, monkeypatch):
    monkeypatch.setattr(FilesystemSource, "_hint", lambda *_: None)
    monkeypatch.setattr(filesystem_source, "RESCAN_SECONDS", 0.2)
    async with watching(proposal, kept):
        write(proposal / "raw/r0001/a.h5")
        await eventually(lambda: kept.events == [("raw", 1)])


async def test_ten_thousand_runs_at_start(proposal, kept):
    events = []
    for run in range(10_000):
        folder = proposal / f"raw/r{run:04d}"
        folder.mkdir()
        (folder / "a.h5").touch()
        if run != 9_000:
            key = event_key("raw", run, fingerprint(folder))
            events.append(filesystem_source.MigrationEvent(1234, run, "raw", "filesystem", key, 0))
    await kept.inbox.mark_seen(events)
    loop = asyncio.get_running_loop()
    began = last = loop.time()
    longest = 0.0
    async with watching(proposal, kept, settle_seconds=0.1):
        while not kept.events:
            await asyncio.sleep(0.001)
            longest, last = max(longest, loop.time() - last), loop.time()
            assert last - began < 15
    assert kept.events == [("raw", 9_000)]
    assert longest < 1.0  # the event loop went on; generous, as other work shares the machine
