"""Who follows what happens: updates go out to every follower, and nobody waits for a slow one."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

Update = dict[str, Any]

LONGEST_BACKLOG = 10_000
"""A follower so many updates behind is let go; it can ask for the state and follow again."""


class Follower:
    """One who follows: iterate over it for the updates since it began, in order."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._queue: asyncio.Queue[Update] = asyncio.Queue()
        self.lost = False

    def put(self, update: Update) -> None:
        """Hand over one update, without waiting."""
        if self._queue.qsize() >= LONGEST_BACKLOG:
            self.lost = True
        else:
            self._queue.put_nowait(update)

    async def __aiter__(self) -> AsyncIterator[Update]:
        """The updates, for ever; ends only when the follower fell too far behind."""
        while not (self.lost and self._queue.empty()):
            yield await self._queue.get()


class Hub:
    """Takes updates from those who change something and gives each follower all of them."""

    def __init__(self) -> None:
        """Begin with no followers."""
        self._followers: set[Follower] = set()

    def publish(self, update: Update) -> None:
        """Give `update` to everyone who follows now."""
        for follower in self._followers:
            follower.put(update)

    @contextmanager
    def follow(self) -> Iterator[Follower]:
        """A follower of all that is published inside the `with` block."""
        follower = Follower()
        self._followers.add(follower)
        try:
            yield follower
        finally:
            self._followers.discard(follower)
