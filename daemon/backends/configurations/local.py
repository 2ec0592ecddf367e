"""Jobs on this host: by the fork server under limits, or one by one on the terminal."""

from typing import Literal

from pydantic import ConfigDict

from daemon.backends.configurations.base import BackendConfig, CommandConfig
from daemon.backends.configurations.managers import ManagerClass, manager_at


class LocalConfig(CommandConfig):
    """Jobs on the daemon's own host."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"type": "local", "timeout": 7200, "env_vars": {"OMP_NUM_THREADS": "4"}},
                {"type": "local", "command": "python fit.py", "working_dir": "/data/fits"},
            ]
        }
    )

    type: Literal["local"] = "local"

    @classmethod
    def manager_class(cls) -> ManagerClass:
        """The manager with a warm process for each context."""
        return manager_at("local", "LocalManager")


class SequentialConfig(BackendConfig):
    """Jobs one by one on the terminal of the command that asks for them, for debugging."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "sequential"}]})

    type: Literal["sequential"] = "sequential"

    @classmethod
    def manager_class(cls) -> ManagerClass:
        """The manager that leaves jobs to their command."""
        return manager_at("sequential", "SequentialManager")


class DummyConfig(BackendConfig):
    """Jobs that nobody runs: it is only remembered that they were asked for."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "dummy"}]})

    type: Literal["dummy"] = "dummy"

    @classmethod
    def manager_class(cls) -> ManagerClass:
        """The manager that remembers."""
        return manager_at("dummy", "DummyManager")
