"""Which way leads to the Slurm of a configuration."""

from daemon.backends.configurations.errors import NoManager
from daemon.backends.configurations.slurm import SlurmCommon, SlurmConfig
from daemon.backends.configurations.slurm_rest import SlurmRestConfig
from daemon.backends.configurations.slurm_ssh import SlurmSshConfig
from daemon.backends.slurm.commands import Commands
from daemon.backends.slurm.scheduler import Scheduler
from daemon.backends.slurm.transport import ThisMachine


def scheduler_of(config: SlurmCommon) -> Scheduler:
    """The way to Slurm that `config` describes. Raises NoManager when a package for it is not here.

    The packages are imported only where somebody uses them.
    """
    if isinstance(config, SlurmConfig):
        return Commands(ThisMachine())
    if isinstance(config, SlurmSshConfig):
        try:
            from daemon.backends.slurm.ssh import Ssh
        except ModuleNotFoundError as error:
            raise _not_installed(error, "ssh") from error
        return Commands(Ssh(config))
    if isinstance(config, SlurmRestConfig):
        try:
            from daemon.backends.slurm.rest import Rest
        except ModuleNotFoundError as error:
            raise _not_installed(error, "rest") from error
        return Rest(config)
    raise NoManager(f"there is no way to Slurm by {config.type}")


def _not_installed(error: ModuleNotFoundError, extra: str) -> NoManager:
    return NoManager(f"{error.name} is not installed: `pip install 'runtable[{extra}]'`")
