"""Which way leads to the Slurm of a configuration."""

from daemon.backends.configurations.errors import NoManager
from daemon.backends.configurations.slurm import SlurmCommon, SlurmConfig
from daemon.backends.configurations.slurm_rest import SlurmRestConfig
from daemon.backends.configurations.slurm_ssh import SlurmSshConfig
from daemon.backends.slurm.commands import Commands
from daemon.backends.slurm.scheduler import Scheduler
from daemon.backends.slurm.transport import ThisMachine


def scheduler_of(config: SlurmCommon) -> Scheduler:
    """The way to Slurm that `config` describes.

    Their packages are imported only where somebody uses them. Raises NoManager for other types.
    """
    if isinstance(config, SlurmConfig):
        return Commands(ThisMachine())
    if isinstance(config, SlurmSshConfig):
        from daemon.backends.slurm.ssh import Ssh

        return Commands(Ssh(config))
    if isinstance(config, SlurmRestConfig):
        from daemon.backends.slurm.rest import Rest

        return Rest(config)
    raise NoManager(f"there is no way to Slurm by {config.type}")
