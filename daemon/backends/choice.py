"""Gives each attempt to the manager of the backend that its request names."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from ctxlib.job_folder import REQUEST
from daemon.backends import Manager, Status

LOCAL = "local"
"""The backend whose handles are the attempts' folders, without its name before them."""


class ByBackend:
    """One manager for the scheduler, made of those of all backends."""

    def __init__(self, managers: Mapping[str, Manager]) -> None:
        """`managers` by backend; one is called `local`."""
        self._managers = managers

    async def submit(self, attempt_dir: Path) -> str:
        """Hand the attempt over. Raises what its manager does, ValueError for no such backend."""
        request = json.loads(await asyncio.to_thread((attempt_dir.parent / REQUEST).read_bytes))
        backend = request.get("backend", LOCAL)
        manager = self._managers.get(backend)
        if manager is None:
            known = ", ".join(self._managers)
            raise ValueError(f"there is no backend {backend!r}; there are: {known}")
        handle = await manager.submit(attempt_dir)
        return handle if backend == LOCAL else f"{backend}:{handle}"

    async def poll(self, handles: Iterable[str]) -> dict[str, Status]:
        """How attempts are doing: one query for each backend that has some."""
        theirs: dict[str, dict[str, str]] = {}
        for handle in handles:
            backend, own = self._split(handle)
            theirs.setdefault(backend, {})[own] = handle
        answers: dict[str, Status] = {}
        for backend, owns in theirs.items():
            polled = await self._managers[backend].poll(owns)
            answers |= {owns[own]: status for own, status in polled.items()}
        return answers

    async def cancel(self, handle: str, reason: str) -> None:
        """End the attempt with all its processes."""
        backend, own = self._split(handle)
        await self._managers[backend].cancel(own, reason)

    async def fence(self, handle: str, reason: str) -> None:
        """Let nothing more come of an attempt that gives no sign of life."""
        backend, own = self._split(handle)
        await self._managers[backend].fence(own, reason)

    async def close(self) -> None:
        """Let go of everything."""
        for manager in self._managers.values():
            await manager.close()

    def _split(self, handle: str) -> tuple[str, str]:
        backend, _, own = handle.partition(":")
        return (backend, own) if backend in self._managers else (LOCAL, handle)
