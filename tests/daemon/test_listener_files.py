"""What a listener keeps: its databases and settings, also as DAMNIT wrote them, and its events."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from daemon.cli import main
from daemon.database import Database
from daemon.events import MigrationEvent
from daemon.listener import NAME, is_listener
from daemon.listener.deliveries import MIGRATIONS, Deliveries
from daemon.listener.registry import Registry, RegistryError
from daemon.listener.service import Listener
from daemon.listener.settings import ListenerSettings
from daemon.typed_settings import SettingError

EVENT = MigrationEvent(1234, 42, "raw", "notify", "key", 1.0)


def run(folder: Path, *arguments: object) -> Result:
    words = ["listener", *map(str, arguments), "--in", str(folder)]
    return CliRunner().invoke(main, words, prog_name="damnit")


@pytest.fixture
async def deliveries(tmp_path: Path) -> AsyncIterator[Deliveries]:
    """An empty file of events."""
    database = Database(tmp_path / "events.sqlite", migrations=MIGRATIONS, wal=False)
    yield Deliveries(database)
    await database.close()


def test_databases_are_added_listed_and_taken_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXTRA_DATA_DATA_ROOT", str(tmp_path))
    official = tmp_path / "MID/202601/p001234/usr/Shared/amore"
    official.mkdir(parents=True)
    listener, other = tmp_path / "listener", tmp_path / "other"
    listener.mkdir()
    added = run(listener, "add", "p001234")
    assert added.stdout == f"Added proposal 1234 at {official}\n"
    assert "no database is there yet" in added.stderr
    assert run(listener, "add", 1234, other).exit_code == 0
    assert run(listener, "add", 1234, other).stdout.endswith("is there already\n")
    assert run(listener, "databases").stdout == (
        f"p1234:\n   {official}\n   {other} (unofficial)\n"
    )
    assert is_listener(listener)
    assert run(listener, "rm", other).stdout == f"Removed database at {other}\n"
    gone = run(listener, "rm", other)
    assert (gone.exit_code, gone.stdout) == (1, "")
    assert f"no database at {other} is served; `damnit listener databases`" in gone.stderr
    assert run(listener, "databases").stdout == f"p1234: {official}\n"


def test_what_cannot_be_served_is_refused(tmp_path: Path) -> None:
    made = CliRunner().invoke(main, ["init", str(tmp_path / "db"), "--proposal", "55"])
    assert made.exit_code == 0
    listener = tmp_path / "listener"
    listener.mkdir()
    refusals = {
        ("add", 1234, tmp_path / "db"): "is for proposal 55, not 1234",
        ("add", "x"): "'x' is no proposal number",
        ("add", 999998): "proposal 999998 was not found",
        ("config", "nosuch"): "there is no setting 'nosuch'",
        ("config", "static-mod"): "did you mean static_mode?",
        ("config", "static_mode", "2"): "it must be 1 (yes) or 0 (no)",
        ("config", "stop_grace", "4000"): "it must be a whole number from 0 to 3600",
        ("config", "share_with", "x"): "it must be owner or group or all",
        ("config", "sandbox_args", "bwrap '"): "it must be a command with its arguments",
        ("config", "supervisor_host", "a b"): "it must be a host name or an IP address",
        ("config", "--num", "stop_grace", "x"): "'x' is no number",
    }
    for arguments, words in refusals.items():
        done = run(listener, *arguments)
        assert done.exit_code == 1, arguments
        assert words in done.stderr, (arguments, done.stderr)
    assert run(listener, "config", "-d").exit_code == 2
    assert run(listener, "config", "--num", "stop_grace").exit_code == 2
    assert "is a database's folder" in run(tmp_path / "db", "add", 55, listener).stderr
    assert run(listener, "add", 55, tmp_path / "db").exit_code == 0
    assert "is served for proposal 55 already" in run(listener, "add", 7, tmp_path / "db").stderr


def test_settings_are_stored_shown_and_deleted(tmp_path: Path) -> None:
    assert run(tmp_path, "config", "static-mode", "false").stdout == "static_mode = 0\n"
    assert run(tmp_path, "config", "static_mode").stdout == "0\n"
    assert run(tmp_path, "config", "sandbox_args").stdout == "\n"
    assert "static_mode             0          1        " in run(tmp_path, "config").stdout
    deleted = run(tmp_path, "config", "-d", "static_mode")
    assert deleted.stdout == "Deleted static_mode (was 0; now 1)\n"
    assert run(tmp_path, "config", "static_mode").stdout == "1\n"


def test_a_file_of_damnits_listener_is_used(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / NAME)) as database, database:
        database.execute("CREATE TABLE proposal_databases(proposal, db_dir UNIQUE, official)")
        database.execute("CREATE TABLE settings(key PRIMARY KEY NOT NULL, value)")
        values = [(1234, "/a", 1), (99, "below", 0)]
        database.executemany("INSERT INTO proposal_databases VALUES (?, ?, ?)", values)
        stored: list[tuple[str, object]] = [
            ("allow_local_processing", "2"),
            ("static_mode", 0),
            ("other", "x"),
        ]
        database.executemany("INSERT INTO settings VALUES (?, ?)", stored)
    registry = Registry(tmp_path)
    assert [(known.proposal, known.folder) for known in registry.databases()] == [
        (99, tmp_path / "below"),
        (1234, Path("/a")),
    ]
    assert registry.remove(tmp_path / "below")
    settings, warnings = ListenerSettings.from_rows(registry.settings())
    assert settings.static_mode == 0
    assert [text.partition(":")[0] for text in warnings] == ["allow_local_processing cannot be '2'"]
    registry.set("static_mode", 1)
    assert registry.settings()["other"] == "x"


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("no database, and long enough to be taken for one" * 9)
    with pytest.raises(RegistryError, match=r"listener\.sqlite cannot be used: .*not a database"):
        Registry(tmp_path).databases()


def test_settings_are_typed() -> None:
    assert ListenerSettings.parse("static_mode", " 1 ") == 1
    assert ListenerSettings.parse("stop-grace", "7", number=True) == 7
    with pytest.raises(SettingError, match="command"):
        ListenerSettings.parse("sandbox_args", "  ")


async def test_an_event_waits_for_each_database_until_that_has_it(deliveries: Deliveries) -> None:
    assert await deliveries.store(EVENT, ["/a", "/b"])
    assert not await deliveries.store(EVENT, ["/a", "/b", "/c"])
    [delivery] = await deliveries.waiting("/a")
    assert delivery.event == EVENT
    await deliveries.settle(delivery, "/a")
    assert await deliveries.waiting("/a") == []
    assert (await deliveries.recent(10))[0]["state"] == "handed to 1 of 2"
    await deliveries.settle(delivery, "/b", "not mine")
    expected = {"waiting": 0, "refused": 1, "refusal": "not mine"}
    assert await deliveries.count("/b") == expected
    assert (await deliveries.recent(10))[0]["state"] == "handed to 1 of 2, 1 refused"


async def test_events_come_in_their_order_and_are_forgotten_with_the_database(
    deliveries: Deliveries,
) -> None:
    for run_number in (3, 1, 2):
        event = MigrationEvent(1234, run_number, "raw", "zeromq", f"k{run_number}", 1.0)
        await deliveries.store(event, ["/a"])
    assert [item.event.run for item in await deliveries.waiting("/a")] == [3, 1, 2]
    assert await deliveries.waiting_for() == {"/a"}
    await deliveries.forget("/a")
    assert await deliveries.waiting_for() == set()


async def test_messages_that_cannot_be_read_are_kept(deliveries: Deliveries) -> None:
    await deliveries.dead_letter("zeromq", "\ud800", "no event", 5.0)
    assert await deliveries.count_dead_letters() == 1
    [letter] = await deliveries.dead_letters(10)
    assert (letter["payload"], letter["error"]) == ("\\ud800", "no event")


async def test_a_letter_that_two_put_back_at_once_is_one_event(deliveries: Deliveries) -> None:
    await deliveries.dead_letter("zeromq", "run 42", "no proposal", 5.0)
    [letter] = await deliveries.letter_ids()
    assert await deliveries.store(EVENT, ["/a"], letter)
    other = MigrationEvent(1234, 42, "raw", "notify", "another key", 1.0)
    assert not await deliveries.store(other, ["/a"], letter)
    assert [item.event for item in await deliveries.waiting("/a")] == [EVENT]
    assert await deliveries.count_dead_letters() == 0


async def test_the_number_of_a_letter_is_given_once(deliveries: Deliveries) -> None:
    await deliveries.dead_letter("zeromq", "run 42", "no proposal", 5.0)
    [letter] = await deliveries.letter_ids()
    await deliveries.store(EVENT, ["/a"], letter)
    await deliveries.dead_letter("zeromq", "run 43", "no proposal", 6.0)
    assert await deliveries.letter(letter) is None
    assert letter not in await deliveries.letter_ids()


async def test_old_events_go_when_later_ones_followed_and_nobody_waits(
    deliveries: Deliveries,
) -> None:
    for number in range(4):
        event = MigrationEvent(1234, 42, "raw", "notify", f"k{number}", float(number))
        await deliveries.store(event, ["/a"])
    first, _, third, last = await deliveries.waiting("/a")
    for delivery in (first, third, last):
        await deliveries.settle(delivery, "/a")
    for number in range(103):
        await deliveries.dead_letter("zeromq", "{", "no JSON", float(number))
    assert await deliveries.prune(2.0) == 1 + 2
    assert [event["key"] for event in await deliveries.recent(9)] == ["k1", "k2", "k3"]
    assert await deliveries.prune(1000.0) == 1 + 1
    assert [event["key"] for event in await deliveries.recent(9)] == ["k1", "k3"]
    assert await deliveries.count_dead_letters() == 100


async def test_what_waits_outlives_the_list_of_databases(tmp_path: Path) -> None:
    folder, path = tmp_path / "db", tmp_path / NAME
    Registry(tmp_path).add(1234, folder)
    for gone in (False, True):
        listener = Listener(tmp_path)
        if gone:
            path.unlink()
        await listener.open()
        await listener.start_work()
        await listener.start_sources()
        try:
            await listener.store(EVENT, [folder])
            if not gone:
                kept = path.rename(tmp_path / "away")
                await listener.concerned(1234)  # reads the list
                assert any("is gone; put it back" in warning for warning in listener.warnings)
                kept.rename(path)
                assert await listener.concerned(1234) == [folder]
                assert listener.warnings == []
            assert await listener.deliveries.waiting_for() == {str(folder)}
        finally:
            await listener.close()
