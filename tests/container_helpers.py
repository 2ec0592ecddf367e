"""A manager for containers in tests: made like the service makes it, asked like the scheduler."""

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import containers

from daemon import library
from daemon.backends import Status
from daemon.backends.configurations import ContainerConfig
from daemon.backends.container import ContainerManager
from daemon.backends.context import ManagerContext
from daemon.sandbox import Interpreter
from daemon.settings import Settings


class ContainerBench:
    """Managers for the database in `folder`, whose containers are of the tests' image."""

    def __init__(self, folder: Path, engine: str, **config: Any) -> None:
        self.folder = folder
        self.woken: list[str] = []
        self.ended: list[tuple[str, int]] = []
        self.library = library.install(folder)
        more = config.pop("volumes", [])
        source = {} if "dockerfile" in config else {"image": containers.IMAGE}
        self.config = ContainerConfig.model_validate(
            {
                "engine": engine,
                "python": sys.executable,
                "volumes": [*containers.volumes(), *more],
                **source,
                **config,
            }
        )
        self.manager = self.another()

    def another(self) -> ContainerManager:
        """A manager as a daemon that was started anew makes one."""
        context = ManagerContext(
            folder=self.folder,
            library=self.library,
            interpreter=lambda: Interpreter(sys.executable),
            settings=lambda: Settings(local_jobs=4),
            log=lambda text: None,
            on_wake=self.woken.append,
            on_end=lambda job, attempt: self.ended.append((job, attempt)),
        )
        self.manager = ContainerManager(self.config, context)
        return self.manager

    async def until(
        self, handle: str, wanted: Callable[[Status], bool], timeout: float = 30.0
    ) -> Status:
        """Ask again and again until an attempt is as wanted; give that answer."""
        deadline = time.monotonic() + timeout
        while True:
            status = (await self.manager.poll([handle]))[handle]
            if wanted(status):
                return status
            assert time.monotonic() < deadline, status
            await asyncio.sleep(0.1)

    async def end(self, handle: str) -> Status:
        """Wait until an attempt runs no more."""
        return await self.until(handle, lambda status: status.state != "running")

    async def run(self, attempt: Path) -> Status:
        """Run an attempt to its end, and let go of the manager."""
        try:
            return await self.end(await self.manager.submit(attempt))
        finally:
            await self.manager.close()
