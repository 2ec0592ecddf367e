"""Jobs that nobody runs: each has ended, without results, as soon as it was asked for.

For trying out what comes before and after a job, as a configuration's name in a context file.
"""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ctxlib import claim
from ctxlib.job_folder import REQUEST
from ctxlib.journal import JournalWriter, file_name
from daemon.backends import Status
from daemon.backends.configurations.local import DummyConfig
from daemon.backends.context import ManagerContext
from daemon.backends.here import look_at

REASON = "nothing was run: its backend is a dummy"


class DummyManager:
    """Remembers the requests of jobs in `asked`, in their order."""

    def __init__(self, config: DummyConfig, context: ManagerContext) -> None:  # noqa: ARG002
        """Tell the `context` of each job that it has ended."""
        self._context = context
        self.asked: list[dict[str, Any]] = []

    def room(self, at_work: int) -> int:  # noqa: ARG002 - no number is too large
        """As many as there are."""
        return 1000

    async def submit(self, attempt_dir: Path) -> str:
        """Remember the job and end it; the handle is the attempt's folder."""
        request = await asyncio.to_thread(_end, attempt_dir)
        if request is not None:
            self.asked.append(request)
        self._context.on_wake(attempt_dir.parent.name)
        self._context.on_end(attempt_dir.parent.name, int(attempt_dir.name))
        return str(attempt_dir)

    async def poll(self, handles: Iterable[str]) -> dict[str, Status]:
        """All of them have ended."""
        return await asyncio.to_thread(lambda: {h: look_at(Path(h)) for h in handles})

    async def cancel(self, handle: str, reason: str) -> None:
        """There is nothing to end."""

    async def fence(self, handle: str, reason: str) -> None:
        """There is nothing that could go on."""

    async def close(self) -> None:
        """Nothing is held."""


def _end(attempt_dir: Path) -> dict[str, Any] | None:
    """Claim an attempt and say in its journal that it has ended; None if it was claimed before."""
    request: dict[str, Any] = json.loads((attempt_dir.parent / REQUEST).read_bytes())
    made = claim.make(attempt_dir, "dummy")
    if made is None:
        return None
    journal = JournalWriter(attempt_dir / file_name(0))
    try:
        who = asdict(made)
        del who["time"]  # each line has its own
        journal.write("claimed", **who)
        journal.write("ended", status="finished", reason=REASON)
    finally:
        journal.close()
    return request
