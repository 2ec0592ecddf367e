"""Typed configurations: where and how jobs run, checked before anything is tried."""

from daemon.backends.configurations.agent import AgentConfig
from daemon.backends.configurations.base import BackendConfig, CommandConfig
from daemon.backends.configurations.container import ContainerConfig, DockerConfig
from daemon.backends.configurations.errors import ConfigurationError, NoManager
from daemon.backends.configurations.local import DummyConfig, LocalConfig, SequentialConfig
from daemon.backends.configurations.managers import ManagerClass
from daemon.backends.configurations.secrets import Secret, SecretError
from daemon.backends.configurations.slurm import SlurmConfig
from daemon.backends.configurations.slurm_rest import SlurmRestConfig
from daemon.backends.configurations.slurm_ssh import SlurmSshConfig

__all__ = [
    "AgentConfig",
    "BackendConfig",
    "CommandConfig",
    "ConfigurationError",
    "ContainerConfig",
    "DockerConfig",
    "DummyConfig",
    "LocalConfig",
    "ManagerClass",
    "NoManager",
    "Secret",
    "SecretError",
    "SequentialConfig",
    "SlurmConfig",
    "SlurmRestConfig",
    "SlurmSshConfig",
]
