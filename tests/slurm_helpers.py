"""A manager for Slurm in tests: made like the service makes it, asked like the scheduler does."""

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from slurm_cluster import SlurmCluster

from daemon.backends import Status
from daemon.backends.configurations.slurm import SlurmCommon, SlurmConfig
from daemon.backends.context import ManagerContext
from daemon.backends.slurm.commands import Commands
from daemon.backends.slurm.manager import SlurmManager
from daemon.backends.slurm.patience import Patience
from daemon.backends.slurm.scheduler import Scheduler
from daemon.backends.slurm.transport import ThisMachine
from daemon.backends.slurm.ways import scheduler_of
from daemon.sandbox import Interpreter
from daemon.settings import Settings

LIBRARY = Path(__file__).parents[1]
QUICK = Patience(poll=0.2, visible=0.5, vanished=1.5, stop=2.5, retry=0.3, settle=1.0)


class SlurmBench:
    """A manager for the database in `folder` on a cluster, and what it has logged."""

    def __init__(
        self,
        folder: Path,
        cluster: SlurmCluster,
        *,
        scheduler: Scheduler | None = None,
        patience: Patience = QUICK,
        settings: dict[str, Any] | None = None,
        kind: type[SlurmCommon] = SlurmConfig,
        **config: Any,
    ) -> None:
        self.folder = folder
        self.log: list[str] = []
        self.woken: list[str] = []
        context = ManagerContext(
            folder=folder,
            library=LIBRARY,
            interpreter=lambda: Interpreter(sys.executable),
            settings=lambda: Settings(**(settings or {})),
            log=self.log.append,
            on_wake=self.woken.append,
            on_end=lambda job, attempt: None,
        )
        self.config = kind(**config)
        self.cluster = cluster
        if scheduler is None and kind is SlurmConfig:
            scheduler = Commands(ThisMachine(cluster.environment, seconds=5))
        self.scheduler = scheduler or scheduler_of(self.config)
        self.manager = SlurmManager(
            self.config, context, scheduler=self.scheduler, patience=patience
        )

    async def submit(self, attempts: Sequence[Path]) -> list[str]:
        """Submit attempts; give their handles."""
        return [await self.manager.submit(attempt) for attempt in attempts]

    async def until(
        self, handles: Sequence[str], wanted: Callable[[Status], bool], timeout: float = 30.0
    ) -> dict[str, Status]:
        """Ask again and again until each of the attempts was once as wanted; give those answers."""
        found: dict[str, Status] = {}
        deadline = time.monotonic() + timeout
        answers: dict[str, Status] = {}
        while left := [handle for handle in handles if handle not in found]:
            answers = await self.manager.poll(left)
            found |= {handle: status for handle, status in answers.items() if wanted(status)}
            assert time.monotonic() < deadline, f"{answers}, log: {self.log}"
            await asyncio.sleep(0.05)
        return found

    async def end(self, handles: Sequence[str], timeout: float = 30.0) -> dict[str, Status]:
        """Ask until all have ended or are lost."""
        return await self.until(handles, lambda status: status.state != "running", timeout)

    async def tidied(self) -> None:
        """Ask until nothing is kept of batches that are done, as Slurm says too."""
        deadline = time.monotonic() + 20
        while left := list((self.folder / "jobs/.batches").iterdir()):
            assert time.monotonic() < deadline, f"{left} stay"
            await self.manager.poll([])
            await asyncio.sleep(0.05)

    def queue(self, form: str = "%F|%K|%T|%j|%k|%P|%r", *options: str) -> list[list[str]]:
        """The cluster's list of jobs, each split into its fields."""
        command = ["squeue", "--all", "--array", "--noheader", f"--format={form}", *options]
        return [line.split("|") for line in self.cluster.run(*command).splitlines()]

    async def close(self) -> None:
        """Let go of the manager."""
        await self.manager.close()


async def until(probe: Callable[[], object], timeout: float = 20.0) -> None:
    """Wait, with the event loop going on, until `probe` gives something true."""
    deadline = time.monotonic() + timeout
    while not await asyncio.to_thread(probe):
        assert time.monotonic() < deadline, f"{probe} gave nothing true within {timeout} s"
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def slurm_bench(folder: Path, cluster: SlurmCluster, **options: Any) -> Any:
    """A bench that is closed in the end."""
    bench = SlurmBench(folder, cluster, **options)
    try:
        yield bench
    finally:
        await bench.close()
