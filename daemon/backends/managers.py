"""All ways to run jobs of one database: a manager for each configuration that is in use."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctxlib.job_folder import REQUEST
from daemon.backends import Manager, Status, Unavailable
from daemon.backends.configurations.base import BackendConfig
from daemon.backends.configurations.errors import ConfigurationError, NoManager
from daemon.backends.configurations.files import BUILT_IN
from daemon.backends.configurations.local import LocalConfig
from daemon.backends.context import ManagerContext
from daemon.backends.named import (
    LOCAL,
    SEQUENTIAL,
    SHARING,
    Backends,
    Configuration,
    described,
    undescribed,
)
from daemon.library import restore


@dataclass(frozen=True)
class _Route:
    """The manager that has an attempt, by its key, and the handle by which it knows that."""

    key: str
    handle: str


class Managers:
    """The managers of a database, made when they are needed; handles are the scheduler's."""

    def __init__(self, context: ManagerContext, backends: Backends) -> None:
        """Make managers for `context` of the configurations of `backends`."""
        self._context = context
        self._backends = backends
        self._made: dict[str, Manager] = {}
        self._routes: dict[str, _Route] = {}
        self._current: dict[str, str] = {}
        self._sharing: set[str] = set()
        self._submitting: Counter[str] = Counter()

    async def room(self, backend: str, at_work: Mapping[str, int]) -> int:
        """How many more attempts a backend takes. Raises Unavailable, ConfigurationError, OSError.

        `at_work` counts those that each backend has. This reads the backend's configuration anew,
        so that an edit is noticed.
        """
        if backend in BUILT_IN:
            config = self._backends.configuration(backend)
        else:
            config = await asyncio.to_thread(self._backends.configuration, backend)
        key, manager = self._manager(backend, described(config), config)
        self._current[backend] = key
        counted = {backend}
        if isinstance(config, SHARING):
            counted |= self._sharing
        return manager.room(sum(at_work.get(name, 0) for name in counted))

    async def submit(self, attempt_dir: Path) -> str:
        """Hand an attempt over to the backend that its request names; what its manager raises.

        Raises ConfigurationError when there is none such (any more).
        """
        try:
            await asyncio.to_thread(restore, self._context.library)
        except OSError as error:
            raise Unavailable(f"the copy of ctxlib that jobs use is gone: {error}") from error
        key, manager = self._manager(*await asyncio.to_thread(self._asked_for, attempt_dir))
        self._submitting[key] += 1
        try:
            own = await manager.submit(attempt_dir)
        finally:
            self._submitting[key] -= 1
        handle = str(attempt_dir) if own == str(attempt_dir) else f"{attempt_dir}\n{own}"
        self._routes[handle] = _Route(key, own)
        return handle

    async def by_manager(self, handles: Iterable[str]) -> dict[str, list[str]]:
        """Those that one manager has together, by its key; managers without any are let go.

        One whose manager cannot be made stands alone: whoever asks how it is hears why.
        """
        grouped: dict[str, list[str]] = {}
        for handle in handles:
            try:
                key = (await self._route(handle)).key
            except Exception:  # noqa: BLE001 - a package's own code, or it is not installed any more
                key = handle
            grouped.setdefault(key, []).append(handle)
        needed = {*grouped, *self._current.values(), *(+self._submitting)}
        for key in set(self._made) - needed:
            await self._close(key)
        kept = {handle for group in grouped.values() for handle in group}
        self._routes = {handle: r for handle, r in self._routes.items() if handle in kept}
        return grouped

    async def poll(self, handles: Iterable[str]) -> dict[str, Status]:
        """How attempts are doing: one query for each manager that has some."""
        grouped: dict[str, dict[str, str]] = {}
        for handle in handles:
            route = await self._route(handle)
            grouped.setdefault(route.key, {})[route.handle] = handle
        answers: dict[str, Status] = {}
        for key, owns in grouped.items():
            polled = await self._made[key].poll(list(owns))
            answers |= {owns[own]: status for own, status in polled.items()}
        return answers

    async def cancel(self, handle: str, reason: str) -> None:
        """End the attempt with all its processes."""
        route = await self._route(handle)
        await self._made[route.key].cancel(route.handle, reason)

    async def fence(self, handle: str, reason: str) -> None:
        """Let nothing more come of an attempt that gives no sign of life."""
        route = await self._route(handle)
        await self._made[route.key].fence(route.handle, reason)

    async def close(self) -> None:
        """Let go of everything."""
        for key in list(self._made):
            await self._close(key)

    async def _close(self, key: str) -> None:
        try:
            await self._made.pop(key).close()
        except Exception as error:  # noqa: BLE001 - a package's own manager
            words = f"its manager did not close: {type(error).__name__}: {error}"
            self._context.log(f"backend {json.loads(key)[0]}: {words}")

    async def _route(self, handle: str) -> _Route:
        """Who has an attempt: of an earlier daemon's its request tells."""
        route = self._routes.get(handle)
        if route is None or route.key not in self._made:
            # Until there were configurations, all but those of `local` began with their backend.
            attempt, _, own = handle.removeprefix(f"{SEQUENTIAL}:").rpartition("\n")
            try:
                asked = await asyncio.to_thread(self._asked_for, Path(attempt or own))
            except (FileNotFoundError, NotADirectoryError):
                # Its folder is gone, and so is all that it could tell: whoever watches it ends it.
                asked = LOCAL, described(LocalConfig())
            key, _ = self._manager(*asked)
            route = self._routes[handle] = _Route(key, own)
        return route

    def _asked_for(self, attempt_dir: Path) -> tuple[str, Configuration]:
        """In a thread: the backend and the configuration that a request names."""
        request = json.loads((attempt_dir.parent / REQUEST).read_bytes())
        backend = request.get("backend", LOCAL)
        # Requests of earlier versions have none.
        values = request.get("configuration")
        if values is None:
            values = described(self._backends.configuration(backend))
        return backend, values

    def _manager(
        self, backend: str, values: Configuration, config: BackendConfig | None = None
    ) -> tuple[str, Manager]:
        key = json.dumps([backend, values], sort_keys=True)
        if key not in self._made:
            config = config or undescribed(values)
            try:
                make: Any = config.manager_class()
                self._made[key] = make(config, self._context)
            except NoManager as error:
                raise ConfigurationError([str(error)]) from error
            if isinstance(config, SHARING):
                self._sharing.add(backend)
        return key, self._made[key]
