import asyncio
import logging
import os
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from daemon.database import Database, SchemaError
from daemon.database_thread import DatabaseClosed

ONE = "CREATE TABLE notes (text)"
TWO = "ALTER TABLE notes ADD COLUMN author;\nUPDATE notes SET author = 'old; hand'"


def add(text):
    return lambda c: c.execute("INSERT INTO notes (text) VALUES (?)", (text,)).rowcount


def texts(c):
    return [row["text"] for row in c.execute("SELECT text FROM notes ORDER BY rowid")]


@pytest.fixture(params=[True, False], ids=["wal", "rollback"])
async def notes(request, tmp_path):
    database = Database(tmp_path / "notes.sqlite", migrations=[ONE], wal=request.param)
    yield database
    await database.close()


async def test_what_is_written_is_read(notes):
    assert await notes.read(texts) == []
    assert await notes.write(add("a")) == 1
    assert await notes.read(texts) == ["a"]
    [mode] = await notes.read(lambda c: c.execute("PRAGMA journal_mode").fetchone())
    assert mode in ("wal", "delete")


async def test_an_exception_rolls_back_and_is_raised(notes):
    def fail(c):
        add("lost")(c)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await notes.write(fail)
    assert await notes.read(texts) == []


async def test_writes_keep_their_order_and_the_event_loop_stays_free(notes):
    release = threading.Event()

    def slow(c):
        release.wait(10)
        return add("slow")(c)

    first = asyncio.create_task(notes.write(slow))
    others = [asyncio.create_task(notes.write(add(str(n)))) for n in range(5)]
    await asyncio.sleep(0)  # the loop runs on while the writer is busy
    assert not first.done()
    release.set()
    await asyncio.gather(first, *others)
    assert await notes.read(texts) == ["slow", "0", "1", "2", "3", "4"]


async def test_reading_cannot_write(notes):
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await notes.read(add("sly"))


async def test_waits_while_another_program_holds_the_lock(notes, monkeypatch, caplog):
    monkeypatch.setattr("daemon.database_thread.BUSY_WARNING", 0.0)
    await notes.open()
    other = sqlite3.connect(notes.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    waiting = asyncio.create_task(notes.write(add("late")))
    with caplog.at_level(logging.WARNING):
        done, _ = await asyncio.wait([waiting], timeout=0.8)
    assert not done
    other.execute("COMMIT")
    assert await asyncio.wait_for(waiting, 10) == 1
    other.close()
    assert "locked by another program" in caplog.text


async def test_a_reader_in_another_program_only_delays_the_commit(tmp_path):
    database = Database(tmp_path / "notes.sqlite", migrations=[ONE], wal=False)
    await database.write(add("a"))
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT * FROM notes").fetchall()
    waiting = asyncio.create_task(database.write(add("b")))
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    assert not done
    other.execute("COMMIT")
    other.close()
    await asyncio.wait_for(waiting, 10)
    assert await database.read(texts) == ["a", "b"]
    await database.close()


async def test_close_gives_up_what_waits_for_a_lock(notes):
    await notes.open()
    other = sqlite3.connect(notes.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    waiting = [asyncio.create_task(notes.write(add(str(n)))) for n in range(2)]
    await asyncio.sleep(0)
    start = time.monotonic()
    await notes.close(grace=0.1)
    assert time.monotonic() - start < 5
    for task in waiting:
        with pytest.raises(DatabaseClosed):
            await task
    with pytest.raises(DatabaseClosed):
        await notes.write(add("after"))
    other.close()


async def test_close_finishes_what_is_queued(notes):
    tasks = [asyncio.create_task(notes.write(add(str(n)))) for n in range(20)]
    await asyncio.sleep(0)
    await notes.close()
    assert await asyncio.gather(*tasks) == [1] * 20


@pytest.mark.parametrize("how", ["deleted", "replaced"])
async def test_a_file_that_went_away_is_made_anew(notes, how, tmp_path, caplog):
    await notes.write(add("a"))
    if how == "replaced":
        other = sqlite3.connect(tmp_path / "other")
        other.executescript(f"{ONE}; PRAGMA user_version = 1; INSERT INTO notes VALUES ('theirs')")
        other.close()
        (tmp_path / "other").rename(notes.path)
    else:
        notes.path.unlink()
    await notes.write(add("b"))
    assert await notes.read(texts) == (["theirs", "b"] if how == "replaced" else ["b"])
    assert "deleted or replaced" in caplog.text
    notes.path.unlink()
    assert await notes.read(texts) == []


async def test_a_write_into_a_file_deleted_meanwhile_is_done_again(tmp_path):
    database = Database(tmp_path / "notes.sqlite", migrations=[ONE], wal=False)
    await database.open()
    calls = []

    def write(c):
        calls.append(add("kept")(c))
        if len(calls) == 1:
            database.path.unlink()

    await database.write(write)
    assert await database.read(texts) == ["kept"]
    assert len(calls) == 2
    await database.close()


async def test_migrations_are_applied_in_order_with_a_backup(tmp_path):
    path = tmp_path / "notes.sqlite"
    old = Database(path, migrations=[ONE], wal=False)
    await old.write(add("a"))
    await old.close()
    new = Database(path, migrations=[ONE, TWO], wal=False)
    rows = await new.read(lambda c: c.execute("SELECT text, author FROM notes").fetchall())
    await new.close()
    assert [tuple(row) for row in rows] == [("a", "old; hand")]
    backup = sqlite3.connect(tmp_path / "notes.sqlite.v1.backup")
    assert backup.execute("SELECT * FROM notes").fetchall() == [("a",)]
    backup.close()
    with pytest.raises(SchemaError, match="version 2, newer than 1"):
        await Database(path, migrations=[ONE], wal=False).open()


async def test_a_migration_that_fails_changes_nothing(tmp_path):
    path = tmp_path / "notes.sqlite"
    old = Database(path, migrations=[ONE], wal=False)
    await old.write(add("a"))
    await old.close()
    broken = Database(path, migrations=[ONE, "DELETE FROM notes;\nNONSENSE"], wal=False)
    with pytest.raises(sqlite3.OperationalError, match="NONSENSE"):
        await broken.open()
    await broken.close()
    again = Database(path, migrations=[ONE], wal=False)
    assert await again.read(texts) == ["a"]
    await again.close()


async def test_the_umask_decides_who_may_write(tmp_path):
    old = os.umask(0o007)
    try:
        database = Database(tmp_path / "notes.sqlite", migrations=[ONE], wal=False)
        await database.open()
        await database.close()
    finally:
        os.umask(old)
    assert Path(database.path).stat().st_mode & 0o777 == 0o660


async def test_what_is_no_database_is_left_as_it_is_and_said(tmp_path):
    path = tmp_path / "daemon.sqlite"
    path.write_text("garbage")
    database = Database(path, migrations=["CREATE TABLE numbers (number)"], wal=False)
    with pytest.raises(SchemaError, match=r"daemon.sqlite is no SQLite .*: move it away, and a"):
        await database.open()
    assert path.read_text() == "garbage"
    path.unlink()
    await database.open()
    await database.write(
        lambda c: c.executemany("INSERT INTO numbers VALUES (?)", [("x" * 99,)] * 999)
    )
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    again = Database(path, migrations=["CREATE TABLE numbers (number)"], wal=False)
    with pytest.raises(SchemaError, match=r"damaged one .*malformed"):
        await again.read(lambda c: c.execute("SELECT * FROM numbers").fetchall())
    for each in (database, again):
        await each.close()
