"""Helpers of the tests of inbox, queue and scheduler."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from daemon.events import Data, MigrationEvent

T = TypeVar("T")


async def eventually(probe: Callable[[], T], timeout: float = 20.0) -> T:
    """Let the event loop run until `probe` gives something true and return that."""
    deadline = asyncio.get_running_loop().time() + timeout
    while not (value := probe()):
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"{probe} gave nothing true in {timeout} s, last: {value!r}")
        await asyncio.sleep(0.005)
    return value


def make_event(
    run: int = 42, data: Data = "raw", *, key: str = "k", source: str = "notify"
) -> MigrationEvent:
    """An event of proposal 1234."""
    return MigrationEvent(1234, run, data, source, key, 1000.0)
