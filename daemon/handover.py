"""A command that does a daemon's work leaves the folder to a daemon that asks for it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from daemon.control import ServiceError

Item = dict[str, Any]

LOOK_SECONDS = 0.2


class Handover:
    """Whether a daemon waits for the folder, and what a command follows until then.

    `parts()` gives what jobs are run by; none of it ends while all is well.
    """

    def __init__(self, parts: Callable[[], Sequence["asyncio.Task[None]"]]) -> None:
        """Nobody has asked yet."""
        self._parts = parts
        self._asked = asyncio.Event()

    @property
    def asked(self) -> bool:
        """Whether a daemon waits for the folder."""
        return self._asked.is_set()

    def ask(self) -> None:
        """A daemon asks for the folder."""
        self._asked.set()

    async def next_of(self, items: AsyncIterator[Item]) -> Item | None:
        """The next of `items`; None at their end, or when the folder is to be handed over.

        Raises ServiceError when a part that they wait for has ended.
        """
        following = asyncio.ensure_future(anext(items, None))
        leaving = asyncio.create_task(self._asked.wait())
        try:
            while not (following.done() or leaving.done()):
                parts = self._parts()
                _refuse_ended(parts)
                # Work may begin with the first item, and its parts be there only then.
                await asyncio.wait(
                    [following, leaving, *parts],
                    return_when=asyncio.FIRST_COMPLETED,
                    timeout=None if parts else LOOK_SECONDS,
                )
            return following.result() if following.done() else None
        finally:
            following.cancel()
            leaving.cancel()


def _refuse_ended(parts: Sequence["asyncio.Task[None]"]) -> None:
    for part in parts:
        if part.done():
            error = None if part.cancelled() else part.exception()
            raise ServiceError(
                f"jobs cannot be run any more ({type(error).__name__}: {error}): what was "
                "begun is stored, and the next start goes on with it"
            ) from error
