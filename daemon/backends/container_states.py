"""How attempts in containers are doing, and the removal of containers that are done with."""

import asyncio
import json
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from ctxlib.job_folder import REQUEST
from ctxlib.output import words_for_seconds
from daemon.backends import Status, Unavailable, attempts
from daemon.backends.attempts import Seen
from daemon.backends.container_command import container_name
from daemon.backends.container_engine import Container, Engine, EngineError
from daemon.backends.here import revoke

GRACE_SECONDS = 30.0
"""For so long after its time is over, or it was told to end, a container may go on by itself."""
LEFT_SECONDS = 60.0
"""After this time a container that has ended and that nobody asks for is removed."""

NEEDS = " (the image needs Python 3.10 or newer with NumPy, h5py and xarray: see `python`)"


class ContainerStates:
    """What an engine and the folders of attempts say together; `clock` is that of the host."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock
        self._told: dict[Path, float] = {}
        self._done: set[str] = set()

    def told_to_end(self, attempt_dir: Path) -> None:
        """An attempt was told to end; if it does not, its container is ended."""
        self._told.setdefault(attempt_dir, self._clock())

    async def look(self, asked: Iterable[Path], others: Collection[str] = ()) -> dict[Path, Status]:
        """Tell how attempts are doing; lost are those without a container that runs.

        Containers are removed once their attempt has ended; those of `others`, which are just being
        started, and those that are to be kept, are left alone.
        """
        try:
            containers = {c.attempt: c for c in await self._engine.containers()}
        except (EngineError, Unavailable) as error:
            return {path: await asyncio.to_thread(_unasked, path, str(error)) for path in asked}
        found = {}
        for path in asked:
            found[path] = await self._status(path, containers.pop(str(path), None))
        for container in containers.values():
            if container.attempt not in others:
                await self._tidy(container)
        await self._remove()
        return found

    async def tidy(self) -> None:
        """Remove the containers of attempts that have ended, as far as the engine can be asked."""
        with suppress(EngineError, Unavailable):
            for container in await self._engine.containers():
                await self._tidy(container)
        await self._remove()

    async def _remove(self) -> None:
        """Remove all containers that are done with, as one alone takes about as long."""
        done, self._done = self._done, set()
        await self._engine.remove(*done)

    async def _leave(self, container: Container | None) -> None:
        """A container has nothing to do any more: it is removed soon, or kept once it has ended."""
        if container is not None and not container.keep:
            self._done.add(container.id)
        elif container is not None and container.state != "over":
            await self._engine.end(container.id, keep=True)

    async def _tidy(self, container: Container) -> None:
        seen = await asyncio.to_thread(attempts.look, Path(container.attempt))
        over = container.state == "over"
        left = over and self._clock() - container.finished > LEFT_SECONDS
        if seen.ended is not None or left or not seen.there:
            await self._leave(container)

    async def _status(self, attempt_dir: Path, container: Container | None) -> Status:
        # After the engine was asked: who has ended by then has written all there is to read.
        seen = await asyncio.to_thread(attempts.look, attempt_dir)
        if not seen.there:
            await self._leave(container)
            return Status("lost", "its folder was deleted")
        if seen.ended is not None:
            await self._leave(container)
            self._told.pop(attempt_dir, None)
            return Status("ended", seen.ended)
        if container is None:
            await asyncio.to_thread(revoke, attempt_dir)
            return Status("lost", "its container is gone" if seen.claimed else "none had begun")
        if container.state == "running":
            return await self._running(attempt_dir, container, claimed=seen.claimed)
        return await self._over(attempt_dir, container, seen)

    async def _running(self, attempt_dir: Path, container: Container, *, claimed: bool) -> Status:
        now = self._clock()
        limit = await asyncio.to_thread(_time_limit, attempt_dir)
        if now - container.started > limit + GRACE_SECONDS:
            await self._engine.end(container.id, keep=container.keep)
            why = f"the job took longer than {words_for_seconds(limit)}"
            return await _concluded(attempt_dir, "failed", why, "timeout")
        if now - self._told.get(attempt_dir, now) > GRACE_SECONDS:
            await self._engine.end(container.id, keep=container.keep)
            seen = await asyncio.to_thread(attempts.look, attempt_dir)
            return await _concluded(attempt_dir, "stopped", seen.stop or "", "stopped")
        place = f"container {container_name(attempt_dir)}"
        return Status("running", signs="here" if claimed else "none", place=place)

    async def _over(self, attempt_dir: Path, container: Container, seen: Seen) -> Status:
        """It has ended, or was made and never started, and its attempt has not ended."""
        refused = False
        if container.state == "starting":
            why = "its container was made and never started"
        else:
            why = container.why(await self._engine.last_line(container.id))
            refused = not seen.claimed and attempts.never_begins(container.exit_code)
            why += NEEDS if refused else ""
        if not container.keep or container.state == "starting":
            await self._engine.remove(container.id)
        if seen.stop is not None:
            return await _concluded(attempt_dir, "stopped", seen.stop, "stopped")
        if refused:
            return await _concluded(attempt_dir, "failed", why, "exit")
        if container.out_of_memory:
            return await _concluded(attempt_dir, "failed", why, "memory")
        await asyncio.to_thread(revoke, attempt_dir)
        return Status("lost", why)


async def _concluded(
    attempt_dir: Path, status: Literal["failed", "stopped"], why: str, code: str
) -> Status:
    return Status(
        "ended", await asyncio.to_thread(attempts.conclude, attempt_dir, status, why, code)
    )


def _unasked(attempt_dir: Path, why: str) -> Status:
    """While the engine cannot be asked, only folders say something; nothing is lost for that."""
    seen = attempts.look(attempt_dir)
    if not seen.there:
        return Status("lost", "its folder was deleted")
    return Status("running", why) if seen.ended is None else Status("ended", seen.ended)


def _time_limit(attempt_dir: Path) -> float:
    """Seconds that the job may take, as its request says."""
    return float(json.loads((attempt_dir.parent / REQUEST).read_bytes())["timeout"])
