"""The backends of a database by their names, each with its configuration.

A backend is known by its name: `local`, `sequential`, that of a configuration in `backends/`, or
that of one that was given for a single time (see `once`). A job keeps the configuration with which
it was submitted, whatever becomes of the file.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from ctxlib.errors import nearest
from daemon.backends.configurations import files
from daemon.backends.configurations.base import BackendConfig
from daemon.backends.configurations.container import ContainerConfig
from daemon.backends.configurations.errors import ConfigurationError
from daemon.backends.configurations.files import BUILT_IN
from daemon.backends.configurations.local import LocalConfig, SequentialConfig
from daemon.backends.configurations.registry import config_class
from daemon.backends.configurations.slurm import SlurmConfig

LOCAL, SEQUENTIAL, CLUSTER = "local", "sequential", "cluster"
"""Backends that need no configuration file, as `agent`; a file may say what `cluster` is."""
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
