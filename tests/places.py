"""Where jobs can run, for tests that are the same for all of them: real ones, every one.

A place gives managers as a daemon makes them, and knows how to have an attempt wait there.
"""

import asyncio
import compileall
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import containers
import pytest
from beamtime import RUNTABLE
from slurm_cluster import SlurmCluster
from slurm_helpers import QUICK, until
from web_server import token, web_server

from daemon import library
from daemon.agent_operations import AgentOperations
from daemon.backends import Manager
from daemon.backends.agent_pool import AgentPool
from daemon.backends.configurations.registry import config_class
from daemon.backends.configurations.slurm import SlurmCommon
from daemon.backends.context import ManagerContext
from daemon.backends.slurm.commands import Commands
from daemon.backends.slurm.manager import SlurmManager
from daemon.backends.slurm.transport import ThisMachine
from daemon.backends.slurm.ways import scheduler_of
from daemon.control_server import ControlServer
from daemon.sandbox import Interpreter
from daemon.service import LOG
from daemon.settings import Settings


class Place:
    """One way to run jobs of the database in `folder`; `config` is for all of its managers."""

    type = "local"

    def __init__(self, folder: Path, request: pytest.FixtureRequest, **config: Any) -> None:
        """Nothing is started yet; what has to be shared comes from `request`."""
        self.folder = folder
        self.config = config
        self.fixture: Callable[[str], Any] = request.getfixturevalue
        self.monkeypatch: pytest.MonkeyPatch = self.fixture("monkeypatch")
        self.log: list[str] = []

    @property
    def context(self) -> ManagerContext:
        """The surroundings of a manager."""
        return ManagerContext(
            folder=self.folder,
            library=library.install(self.folder),
            interpreter=lambda: Interpreter(sys.executable),
            settings=lambda: Settings(local_jobs=100),
            log=self.log.append,
            on_wake=lambda job: None,
            on_end=lambda job, attempt: None,
        )

    def manager(self, **more: Any) -> Manager:
        """A manager as a daemon that was just started makes one."""
        config = config_class(self.type).model_validate({**self.config, **more})
        manager: Manager = cast("Any", config.manager_class())(config, self.context)
        return manager

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """The time in which attempts are begun."""
        yield

    async def cancel_in_queue(self, attempt: Path, reason: str) -> Manager:
        """Submit an attempt and cancel it before it begins; who has it. This is before `working`.

        Here that is while the context file is loaded.
        """
        manager = self.manager()
        submitting = asyncio.create_task(manager.submit(attempt))
        await until((attempt.parent / "loading").exists)
        await manager.cancel(str(attempt), reason)
        (attempt.parent / "go").touch()
        assert await submitting == str(attempt)
        return manager


class InContainers(Place):
    """Containers of podman."""

    type = "container"

    def __init__(self, folder: Path, request: pytest.FixtureRequest, **config: Any) -> None:
        """Have this process use the engine that tests share."""
        engine = request.getfixturevalue("podman")
        own = {
            "engine": engine.program,
            "image": containers.IMAGE,
            "python": sys.executable,
            "volumes": containers.volumes(),
        }
        super().__init__(folder, request, **own, **config)
        # As a first job outside of containers leaves it: inside it cannot be written.
        compileall.compile_dir(self.context.library, quiet=1)
        for name, value in engine.environment.items():
            self.monkeypatch.setenv(name, value)

    async def cancel_in_queue(self, attempt: Path, reason: str) -> Manager:
        """While its image is made ready."""
        manager = self.manager()
        await manager.cancel(await manager.submit(attempt), reason)
        return manager


class OnSlurm(Place):
    """Slurm's programs on this machine; the other ways differ by their type and options."""

    type = "slurm"

    def __init__(self, folder: Path, request: pytest.FixtureRequest, **config: Any) -> None:
        """Use the cluster that tests share."""
        self.cluster: SlurmCluster = request.getfixturevalue("slurm_cluster")
        super().__init__(folder, request, **config)

    def manager(self, **more: Any) -> Manager:
        """With little patience, so that little time is spent on waiting."""
        config = config_class(self.type).model_validate({**self.config, **more})
        assert isinstance(config, SlurmCommon)
        here = Commands(ThisMachine(self.cluster.environment))
        scheduler = here if self.type == "slurm" else scheduler_of(config)
        return SlurmManager(config, self.context, scheduler=scheduler, patience=QUICK)

    async def cancel_in_queue(self, attempt: Path, reason: str) -> Manager:
        """While it waits in Slurm."""
        manager = self.manager(partition="closed")
        handle = await manager.submit(attempt)
        await _until_said(manager, handle, "PartitionDown")
        await manager.cancel(handle, reason)
        async with asyncio.timeout(30):  # it is over when Slurm has let go of it
            while (await manager.poll([handle]))[handle].state == "running":
                await asyncio.sleep(0.05)
        assert not self.cluster.run("squeue", "--noheader", "--partition=closed")
        return manager


class OverSsh(OnSlurm):
    """Slurm's programs on another machine: this one, over SSH."""

    type = "slurm-ssh"
    server = "ssh_server"

    def __init__(self, folder: Path, request: pytest.FixtureRequest) -> None:
        """Use the server that tests share."""
        super().__init__(folder, request, **request.getfixturevalue(self.server).options)


class OverHttp(OverSsh):
    """The service of Slurm for HTTP."""

    type = "slurm-rest"
    server = "slurmrestd"


class ByAgent(Place):
    """Our agent, which asks a real web program, whose daemon this process is."""

    type = "agent"
    NAME = "gpu-1"

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Serve, and have the agent at work."""
        post = self._post()
        await post.start()
        web = web_server(self.folder, "--port", "0")
        try:
            server = await asyncio.to_thread(web.__enter__)
            try:
                secret = await asyncio.to_thread(token, self.folder, "agent", self.NAME)
                with self._agent(server.url, secret):
                    yield
            finally:
                await asyncio.to_thread(web.__exit__, None, None, None)
        finally:
            await post.close()

    def _post(self) -> ControlServer:
        """What answers agents, without a queue: the attempts here are all first ones."""

        class Queue:
            async def live_dispatched(self) -> list[str]:
                return []

            async def get(self, job: str) -> Any:
                return SimpleNamespace(id=job, attempt=1)

        surroundings = self.context
        pool = AgentPool(
            self.folder,
            surroundings.library,
            interpreter=surroundings.interpreter,
            settings=surroundings.settings,
        )
        service = SimpleNamespace(
            folder=self.folder, agents=pool, queue=Queue(), working_scheduler=None
        )
        return ControlServer(self.folder, AgentOperations(cast("Any", service)).handlers, log=LOG)

    @contextlib.contextmanager
    def _agent(self, url: str, secret: str) -> Any:
        command = [*RUNTABLE, "agent", "--server", url, "--id", self.NAME, "--max-jobs", "20"]
        with (self.folder / "agent.out").open("ab") as output:
            process = subprocess.Popen(
                command,
                env={**os.environ, "RUNTABLE_TOKEN": secret},
                stdout=output,
                stderr=output,
            )
        try:
            yield
        finally:
            process.kill()
            process.wait()

    async def cancel_in_queue(self, attempt: Path, reason: str) -> Manager:
        """While no agent asks; the web interface needs a database, which is made here."""
        blank = [*RUNTABLE, "proposal", "1234"]
        await asyncio.to_thread(
            subprocess.run, blank, cwd=self.folder, check=True, capture_output=True
        )
        manager = self.manager()
        handle = await manager.submit(attempt)
        await _until_said(manager, handle, "waits for an agent")
        await manager.cancel(handle, reason)
        return manager


async def _until_said(manager: Manager, handle: str, words: str) -> None:
    async with asyncio.timeout(30):
        while words not in (await manager.poll([handle]))[handle].reason:
            await asyncio.sleep(0.05)


PLACES: dict[str, type[Place]] = {
    "local": Place,
    "slurm": OnSlurm,
    "slurm-ssh": OverSsh,
    "slurm-rest": OverHttp,
    "container": InContainers,
    "agent": ByAgent,
}
"""All of them, by the names that tests give."""
