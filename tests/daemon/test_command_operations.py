"""Which command a configuration has for those who give none."""

import pytest

from daemon.backends.configurations import BackendConfig, DockerConfig, LocalConfig
from daemon.command_operations import command_of
from daemon.control import ServiceError

RUN = "/opt/my model/run.sh"


@pytest.mark.parametrize(
    ("config", "command"),
    [
        (LocalConfig(command="make fit"), "make fit"),
        (DockerConfig(image="a", executable=RUN), f"'{RUN}'"),
        (DockerConfig(image="a", executable="run", mpiexec="mpirun", cpu=4), "mpirun -n 4 run"),
        (DockerConfig(image="a", executable="run", mpiexec="mpirun -np 8"), "mpirun -np 8 run"),
        (DockerConfig(image="a", executable="/usr/local/bin/run.sh"), "/usr/local/bin/run.sh"),
        (DockerConfig(image="a", mpiexec="srun"), "srun -n 1 /usr/local/bin/run.sh"),
    ],
)
def test_the_command_of_a_configuration(config: BackendConfig, command: str) -> None:
    assert command_of("there", config) == command


@pytest.mark.parametrize("config", [LocalConfig(), DockerConfig(image="a")])
def test_a_configuration_without_a_command(config: BackendConfig) -> None:
    with pytest.raises(ServiceError, match="backend 'there' has no command"):
        command_of("there", config)
