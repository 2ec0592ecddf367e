"""Jobs that the command which asked for them runs itself, on its own terminal.

The service only makes the attempt's folder and follows its journal, as always.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from ctxlib import claim
from daemon.backends import Status
from daemon.backends.configurations.local import LocalConfig, SequentialConfig
from daemon.backends.context import ManagerContext
from daemon.backends.here import look_at
from daemon.backends.local import LocalManager
from daemon.sandbox import Interpreter
from daemon.settings import Settings

TAKE_SECONDS = 10.0
"""Within this time the command has to take an attempt that it is given."""
LOAD_SECONDS = 330.0
"""Within this time it has to begin then: its context file may take long to load."""

_TAKEN = "taken"


class SequentialManager:
    """Leaves attempts to whoever asked for them (see `run_here`)."""

    def __init__(
        self,
        config: SequentialConfig,  # noqa: ARG002 - all managers are made alike
        context: ManagerContext,  # noqa: ARG002
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` tells for how long an attempt has been waiting for its command."""
        self._clock = clock
        self._offered: dict[str, float] = {}

    def room(self, at_work: int) -> int:
        """One at a time: its command asks for the next one when that has ended."""
        return 1 - at_work

    async def submit(self, attempt_dir: Path) -> str:
        """Offer an attempt to its command; the handle is its folder."""
        self._offered[str(attempt_dir)] = self._clock()
        return str(attempt_dir)

    async def poll(self, handles: Iterable[str]) -> dict[str, Status]:
        """How attempts are doing; lost are those that no command has begun with in time."""
        return await asyncio.to_thread(lambda: {handle: self._look(handle) for handle in handles})

    def _look(self, handle: str) -> Status:
        attempt_dir, offered = Path(handle), self._offered.get(handle)
        if offered is not None and not claim.exists(attempt_dir):
            waited = self._clock() - offered
            taken = claim.read(attempt_dir, _TAKEN)
            if waited < TAKE_SECONDS or (taken and waited < LOAD_SECONDS and _may_live(taken)):
                return Status("running")
        self._offered.pop(handle, None)
        status = look_at(attempt_dir)
        # Whoever runs it on this host may have put it to sleep, and may go on with it.
        return replace(status, signs="none") if status.signs == "here" else status

    async def cancel(self, handle: str, reason: str) -> None:
        """Ask for the end of an attempt; the command's own process ends it."""
        await asyncio.to_thread(claim.request_stop, Path(handle), reason)

    async def fence(self, handle: str, reason: str) -> None:
        """See to it that the command, should it wake up, ends it."""
        await asyncio.to_thread(claim.request_stop, Path(handle), reason)

    async def close(self) -> None:
        """Nothing is held."""


def _may_live(taken: claim.Claim) -> bool:
    """Tell whether the command may still be there: on another host one cannot see."""
    return taken.alive() or not taken.here()


async def run_here(
    attempt_dir: Path, folder: Path, library: Path, interpreter: Interpreter
) -> None:
    """Run an attempt that was offered, with a fresh runner, its output on this terminal.

    Returns when it has ended, at once when somebody has begun with it. Raises ContextBroken.
    """
    if claim.exists(attempt_dir) or claim.make(attempt_dir, "sequential", name=_TAKEN) is None:
        return
    ended = asyncio.Event()
    # Its job follows at once, so that nothing idles for long; `close` ends it.
    settings = Settings(
        process_start="fresh", idle_seconds=10, max_servers=1, queue_claim_ttl=int(LOAD_SECONDS)
    )
    context = ManagerContext(
        folder=folder,
        library=library,
        interpreter=lambda: interpreter,
        settings=lambda: settings,
        log=lambda _text: None,
        on_wake=lambda _job: None,
        on_end=lambda _job, _attempt: ended.set(),
    )
    manager = LocalManager(LocalConfig(), context, terminal=True)
    try:
        await manager.submit(attempt_dir)
        await ended.wait()
    finally:
        await manager.close()
