"""Which way leads to the Slurm of a configuration."""

from daemon.backends.configurations import NoManager
from daemon.backends.configurations.slurm import SlurmCommon, SlurmConfig
from daemon.backends.slurm.commands import Commands
from daemon.backends.slurm.scheduler import Scheduler
from daemon.backends.slurm.transport import ThisMachine


def scheduler_of(config: SlurmCommon) -> Scheduler:
    """The way to Slurm that `config` describes. Raises NoManager for one there is not yet."""
    if isinstance(config, SlurmConfig):
        return Commands(ThisMachine())
    raise NoManager(f"there is no way yet to Slurm by {config.type}")
