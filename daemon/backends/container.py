"""Runs attempts in containers of docker, podman or apptainer.

Each is `python -m ctxlib.alone` in a container of its own, found again by its labels. What becomes
of an attempt stands in its folder; the engine is asked for what died without a word.
"""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ctxlib import claim
from ctxlib.job_folder import REQUEST
from daemon.backends import Status, Unavailable, attempts
from daemon.backends.apptainer import Apptainer
from daemon.backends.configurations.container import ContainerConfig
from daemon.backends.configurations.secrets import SecretError
from daemon.backends.container_command import container_name
from daemon.backends.container_engine import Engine, EngineError
from daemon.backends.container_start import Starter
from daemon.backends.container_states import ContainerStates
from daemon.backends.context import ManagerContext
from daemon.backends.here import fence, revoke
from daemon.backends.news import News

CLOSE_SECONDS = 10.0
"""For so long an engine that does not answer keeps a manager from being closed."""


class ContainerManager:
    """Runs attempts as `config` says. Their images are made ready in the background."""

    def __init__(self, config: ContainerConfig, context: ManagerContext) -> None:
        self._config = config
        self._context = context
        self._apptainer: Apptainer | None = None
        self._engine = Engine(config.engine, context.folder)
        if config.engine == "apptainer":
            self._apptainer = Apptainer(config, context.folder, context.library)
        self._starter = Starter(config, self._engine, context.folder, context.library)
        self._states = ContainerStates(self._engine)
        self._news = News(self._tell)
        self._preparing: dict[str, asyncio.Task[None]] = {}
        self._launching: set[str] = set()
        self._lost: dict[str, str] = {}
        self._heard: set[Path] = set()
        self._tidying: asyncio.Task[None] | None = None

    def room(self, at_work: int) -> int:
        """As many as may run on this machine at once (setting local_jobs)."""
        return self._context.settings().local_jobs - at_work

    async def submit(self, attempt_dir: Path) -> str:
        """Begin with an attempt; one that cannot be started ends at once, and says why.

        Raises Unavailable when the engine cannot be asked.
        """
        request = json.loads(await asyncio.to_thread((attempt_dir.parent / REQUEST).read_bytes))
        problems = await asyncio.to_thread(self._config.check_host)
        if self._apptainer is None and not problems:
            await self._engine.check()
        handle = str(attempt_dir)
        start = self._start(attempt_dir, request, problems)
        self._preparing[handle] = asyncio.get_running_loop().create_task(start)
        self._news.watch(attempt_dir)
        return handle

    async def _start(
        self, attempt_dir: Path, request: Mapping[str, Any], problems: Sequence[str]
    ) -> None:
        """Start the attempt's container once its image is there; end it when that cannot be."""
        handle = str(attempt_dir)
        try:
            if problems:
                raise ValueError("; ".join(problems))
            if self._apptainer is not None:
                await self._apptainer.start(attempt_dir, request)
                return
            image = await self._starter.image()
            self._launching.add(handle)
            await self._starter.start(attempt_dir, request, image)
        except (EngineError, SecretError, Unavailable, ValueError, OSError) as error:
            await self._not_started(attempt_dir, error)
        finally:
            self._launching.discard(handle)
            self._preparing.pop(handle, None)

    async def _not_started(self, attempt_dir: Path, error: Exception) -> None:
        """End the job, for what is refused would be again; what may pass is tried again."""
        why = f"its container cannot be started: {error}"
        again = isinstance(error, Unavailable | OSError)
        if self._apptainer is None:  # one that was made and could not be started
            await self._engine.remove(container_name(attempt_dir))
        try:
            if not again:
                await asyncio.to_thread(attempts.conclude, attempt_dir, "failed", why)
        except OSError:
            again = True
        if again:
            self._lost[str(attempt_dir)] = why
        self._context.on_end(attempt_dir.parent.name, int(attempt_dir.name))

    async def poll(self, handles: Iterable[str]) -> dict[str, Status]:
        """Ask the engine for all containers of the database; remove those that are done with."""
        handles = list(handles)
        found = {handle: Status("running", self._stage(handle)) for handle in self._preparing}
        for handle in set(handles) & set(self._lost):
            found[handle] = await asyncio.to_thread(_lost, handle, self._lost[handle])
        others = [Path(handle) for handle in handles if handle not in found]
        if self._apptainer is None:
            seen = await self._states.look(others, set(found))
        else:
            seen = await asyncio.to_thread(
                lambda apptainer: {path: apptainer.look(path) for path in others}, self._apptainer
            )
        found |= {str(path): status for path, status in seen.items()}
        for handle in handles:
            if found[handle].state == "running":
                self._news.watch(Path(handle))
            else:
                self._news.forget(Path(handle))
                self._lost.pop(handle, None)
        return {handle: found[handle] for handle in handles}

    def _stage(self, handle: str) -> str:
        """How far one is that has no container yet."""
        launching = handle in self._launching or self._apptainer is not None
        return "its container is being started" if launching else "its image is made ready"

    async def cancel(self, handle: str, reason: str) -> None:
        """Ask for the end of an attempt; one that waits for its image has ended at once."""
        attempt_dir = Path(handle)
        task = self._preparing.get(handle)
        if task is not None and handle not in self._launching:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await asyncio.to_thread(attempts.conclude, attempt_dir, "stopped", reason)
            self._tell(attempt_dir)
            return
        await asyncio.to_thread(claim.request_stop, attempt_dir, reason)
        self._states.told_to_end(attempt_dir)

    async def fence(self, handle: str, reason: str) -> None:
        """End the container with all that is in it."""
        attempt_dir = Path(handle)
        task = self._preparing.get(handle)
        if task is not None and handle not in self._launching:
            task.cancel()
        if self._apptainer is not None:
            await asyncio.to_thread(self._apptainer.end, attempt_dir)
            await asyncio.to_thread(fence, attempt_dir, reason)
            return
        with suppress(FileNotFoundError):  # its folder was deleted
            await asyncio.to_thread(claim.request_stop, attempt_dir, reason)
        if task is not None and handle in self._launching:
            await asyncio.wait([task])
        await self._engine.end(container_name(attempt_dir), keep=not self._config.remove_container)

    async def close(self) -> None:
        """Let go of everything; containers go on, and those that have ended are removed."""
        await self._news.close()
        for handle, task in list(self._preparing.items()):
            if handle not in self._launching:
                task.cancel()
        left = [*self._preparing.values(), *([self._tidying] if self._tidying else [])]
        with suppress(TimeoutError):  # the next daemon finds what is left by its labels
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.gather(*left, return_exceptions=True)
                if self._apptainer is None:
                    await self._states.tidy()

    def _tell(self, attempt_dir: Path) -> None:
        """There is something to read; with the last word of an attempt its container goes."""
        self._context.on_wake(attempt_dir.parent.name)
        if self._apptainer is None and self._config.remove_container:
            self._heard.add(attempt_dir)
            if self._tidying is None or self._tidying.done():
                self._tidying = asyncio.get_running_loop().create_task(self._tidy())

    async def _tidy(self) -> None:
        """Remove the containers of those that have said their last word, many with one call."""
        while self._heard:
            heard, self._heard = self._heard, set()
            ended = await asyncio.to_thread(_ended, heard)
            for path in ended:
                self._news.forget(path)
            await self._engine.remove(*map(container_name, ended))


def _ended(attempt_dirs: Iterable[Path]) -> list[Path]:
    """Those whose journal has the last word."""
    return [path for path in attempt_dirs if attempts.look(path).ended is not None]


def _lost(handle: str, why: str) -> Status:
    """An attempt that has not begun and never will."""
    attempt_dir = Path(handle)
    if attempt_dir.is_dir():
        revoke(attempt_dir)
    return Status("lost", why)
