"""All ways to run jobs of one database: a manager for each configuration that is in use.

A backend is known by its name: `local`, `sequential`, that of a configuration in `backends/`, or
that of one that was given for a single time (see `once`). A job keeps the configuration with which
it was submitted, whatever becomes of the file.
"""

import asyncio
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctxlib.errors import nearest
from ctxlib.job_folder import REQUEST
from daemon.backends import Manager, Status, Unavailable
from daemon.backends.configurations import files
from daemon.backends.configurations.agent import AgentConfig
from daemon.backends.configurations.base import BackendConfig
from daemon.backends.configurations.container import ContainerConfig
from daemon.backends.configurations.errors import ConfigurationError, NoManager
from daemon.backends.configurations.local import LocalConfig, SequentialConfig
from daemon.backends.configurations.registry import config_class
from daemon.backends.configurations.slurm import SlurmConfig
from daemon.backends.context import ManagerContext
from daemon.library import restore

LOCAL, SEQUENTIAL, AGENT, CLUSTER = "local", "sequential", "agent", "cluster"
"""Backends that need no configuration file; a file may say what `cluster` is."""
BUILT_IN: Mapping[str, type[BackendConfig]] = {
    LOCAL: LocalConfig,
    SEQUENTIAL: SequentialConfig,
    AGENT: AgentConfig,
}
HERE = (LocalConfig, SequentialConfig)
"""Configurations whose jobs run under this machine's limits (noncluster_cpus, noncluster_mem)."""
SHARING = (LocalConfig, ContainerConfig)
"""Configurations whose jobs share this machine: together there are `local_jobs` of them."""
ONCE = ".once"
"""The folder in `backends/` with configurations that were given for a single time."""

Configuration = dict[str, Any]
"""A configuration as JSON, with references in place of secrets."""


class UnknownBackend(ConfigurationError):
    """There is no backend of this name; says which there are."""


@dataclass(frozen=True)
class _Route:
    """The manager that has an attempt, by its key, and the handle by which it knows that."""

    key: str
    handle: str


class Backends:
    """The configurations of a database's backends, as they are at the moment."""

    def __init__(self, folder: Path, *, has_slurm: Callable[[], bool] | None = None) -> None:
        """Look into `folder`; `has_slurm` tells whether jobs can be given to Slurm here."""
        self._folder = folder
        self._has_slurm = has_slurm or (lambda: shutil.which("sbatch") is not None)
        self._uses: dict[Path, tuple[tuple[int, int], str]] = {}

    def names(self) -> list[str]:
        """The names that a variable or a command may give, in order."""
        return sorted({*BUILT_IN, CLUSTER, *files.named(self._folder)} - {SEQUENTIAL})

    def for_variables(self) -> dict[str, str]:
        """The names that a variable may give, and why it cannot run there after all, else ""."""
        named = files.named(self._folder)
        return {
            name: self._use(name, named[name]) if name in named else "" for name in self.names()
        }

    def _use(self, name: str, path: Path) -> str:
        """What the configuration in a file is for, if not for variables; read when it is new."""
        try:
            found = path.stat()
            state = (found.st_mtime_ns, found.st_ino)
            if self._uses.get(path, (None,))[0] != state:
                config = files.read_named(self._folder, name)
                self._uses[path] = (state, not_for_variables(name, config))
        except (ConfigurationError, OSError):
            return ""  # its jobs wait until it is mended
        return self._uses[path][1]

    def is_described(self, name: str) -> bool:
        """Whether somebody has written a configuration for `name`: it is not one of our own."""
        return "@" in name or (name not in BUILT_IN and name in files.named(self._folder))

    def configuration(self, name: str) -> BackendConfig:
        """The configuration called `name`. Raises ConfigurationError, UnknownBackend, OSError."""
        if name in BUILT_IN:
            return BUILT_IN[name]()
        if "@" in name:
            return files.read(self._once(name))
        if name in files.named(self._folder):
            return files.read_named(self._folder, name)
        if name == CLUSTER:
            return SlurmConfig() if self._has_slurm() else LocalConfig()
        raise self.unknown(name)

    def unknown(self, name: str) -> UnknownBackend:
        """What to tell who named a backend that there is not."""
        names = self.names()
        guess = nearest(name, names)
        known = f"there are: {', '.join(names)}"
        mend = f"{guess}; {known}" if guess else known
        return UnknownBackend([f"there is no backend {name!r} ({mend})"])

    def once(self, title: str, config: BackendConfig) -> str:
        """Keep a configuration for jobs that are to run by it; the name of their backend."""
        text = files.dumps(config, "json")
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        name = f"{title}@{digest}"
        kept = self._once(name)
        if kept.exists():
            os.utime(kept)  # it is used from now on: see `unused`
        else:
            files.save(kept, text)
        return name

    def unused(self, used: Collection[str], before: float) -> list[Path]:
        """The files with configurations for once that are older and for none of the names `used`.

        `before` is a Unix time in seconds.
        """
        kept = (self._folder / files.FOLDER / ONCE).glob("*.json")
        return sorted(p for p in kept if p.stem not in used and p.stat().st_mtime < before)

    def _once(self, name: str) -> Path:
        if Path(name).name != name:
            raise self.unknown(name)
        return self._folder / files.FOLDER / ONCE / f"{name}.json"


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
        """Those that one manager has together, by its key; managers without any are let go."""
        grouped: dict[str, list[str]] = {}
        for handle in handles:
            grouped.setdefault((await self._route(handle)).key, []).append(handle)
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
                raise ConfigurationError([f"backend {backend!r}: {error}"]) from error
            if isinstance(config, SHARING):
                self._sharing.add(backend)
        return key, self._made[key]


def check_variables(name: str, config: BackendConfig) -> None:
    """Raise ConfigurationError for a configuration that is not for jobs of variables."""
    if words := not_for_variables(name, config):
        raise ConfigurationError([f"backend {name!r} {words}"])


def not_for_variables(name: str, config: BackendConfig) -> str:
    """What else a configuration is for, when it is not for variables; "" when it is."""
    if isinstance(config, SequentialConfig):
        return "is for the terminal of a command alone: give `reprocess --foreground`"
    fields = ", ".join(config.command_fields())
    words = f"is for commands, by its {fields}: `runtable run --backend {name}` executes one"
    return words if fields else ""


def described(config: BackendConfig) -> Configuration:
    """A configuration as job.json has it: what somebody has set, and its type."""
    values = config.model_dump(mode="json", exclude_unset=True, exclude={"type"})
    return {"type": config.type, **values}


def undescribed(values: Mapping[str, Any]) -> BackendConfig:
    """The configuration that `described` gave. Raises ConfigurationError."""
    rest = {name: value for name, value in values.items() if name != "type"}
    return files.validated(config_class(str(values.get("type", LOCAL))), rest)
