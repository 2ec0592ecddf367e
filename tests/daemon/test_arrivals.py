"""Runs that arrive are shown, and a table that is locked holds up nobody."""

import asyncio
import logging

import pytest
from queue_helpers import eventually, make_event

from daemon import arrivals
from daemon.arrivals import Arrivals


class Table:
    """Shows runs, unless it is locked."""

    def __init__(self):
        self.free = asyncio.Event()
        self.free.set()
        self.shown = []

    async def show(self, events):
        await self.free.wait()
        if any(event.run == 13 for event in events):
            raise ValueError("no such row")
        self.shown += [event.run for event in events]


@pytest.fixture
async def table():
    return Table()


@pytest.fixture
async def runs(table):
    arrivals = Arrivals(table.show, log=logging.getLogger("arrivals"))
    yield arrivals
    await arrivals.close()


async def test_a_run_is_shown_before_its_jobs_begin(table, runs):
    await runs.arrived([make_event(1)])
    assert table.shown == [1]
    with pytest.raises(ValueError, match="no such row"):
        await runs.arrived([make_event(13)])


async def test_a_locked_table_holds_up_one_event_for_a_moment(table, runs, monkeypatch, caplog):
    monkeypatch.setattr(arrivals, "PATIENCE", 0.01)
    table.free.clear()
    await runs.arrived([make_event(1)])
    monkeypatch.setattr(arrivals, "PATIENCE", 1000.0)
    await runs.arrived([make_event(2)])
    await runs.arrived([make_event(13)])
    table.free.set()
    await eventually(lambda: set(table.shown) == {1, 2} and caplog.messages)
    assert caplog.messages == ["runs that arrived cannot be shown: no such row"]


async def test_what_waits_for_a_lock_does_not_keep_the_daemon_from_ending(table, runs, monkeypatch):
    monkeypatch.setattr(arrivals, "PATIENCE", 0.01)
    table.free.clear()
    await runs.arrived([make_event(1)])
    await runs.close()
    table.free.set()
    await asyncio.sleep(0)
    assert table.shown == []
