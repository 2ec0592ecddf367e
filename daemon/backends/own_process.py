"""Attempts on this machine that need no context file: each in a process of its own."""

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ctxlib import claim
from daemon.backends.context import ManagerContext

_OFTEN_SECONDS = 0.02


class OwnProcesses:
    """Those that were started and have not ended; they go on whatever becomes of this process."""

    def __init__(self, context: ManagerContext) -> None:
        """Tell the `context` of each that has ended."""
        self._context = context
        self._ending: set[asyncio.Task[tuple[bytes, bytes]]] = set()

    async def start(self, attempt_dir: Path, environment: Mapping[str, str]) -> None:
        """Start a process for an attempt, and return once that has begun.

        It gets `environment` on top of ours.
        Raises ValueError with what it says when it cannot be, OSError when there is none, and
        TimeoutError after `queue_claim_ttl`.
        """
        process = await asyncio.create_subprocess_exec(
            *self._context.interpreter().command("-m", "ctxlib.alone", str(attempt_dir)),
            cwd=self._context.library,
            env=self._environment(environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        ending = asyncio.create_task(process.communicate())
        self._ending.add(ending)
        ending.add_done_callback(lambda _: self._ended(ending, attempt_dir))
        limit = self._context.settings().queue_claim_ttl
        try:
            async with asyncio.timeout(limit):
                while not claim.exists(attempt_dir) and not ending.done():
                    await asyncio.wait([ending], timeout=_OFTEN_SECONDS)
        except TimeoutError:
            with suppress(ProcessLookupError):  # it has ended just now
                os.killpg(process.pid, signal.SIGKILL)
            raise not_taken(limit) from None
        if not claim.exists(attempt_dir):
            raise ValueError(ending.result()[1].decode(errors="replace").strip())

    def close(self) -> None:
        """Let go of all of them."""
        for ending in self._ending:
            ending.cancel()

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        environment = {**os.environ, **more, "PYTHONPATH": str(self._context.library)}
        environment.pop("PYTHONSAFEPATH", None)
        return environment

    def _ended(self, ending: asyncio.Task[tuple[bytes, bytes]], attempt_dir: Path) -> None:
        self._ending.discard(ending)
        if not ending.cancelled():
            self._context.on_end(attempt_dir.parent.name, int(attempt_dir.name))


def not_taken(limit: float) -> TimeoutError:
    """What to raise when nobody has begun with an attempt within `limit` seconds."""
    return TimeoutError(f"no process took it within {limit:g} s (setting queue_claim_ttl)")
