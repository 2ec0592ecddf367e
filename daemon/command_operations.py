"""Jobs with a command of their own, in place of a context's variables: what is asked for them."""

import asyncio
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from daemon.backends.configurations.base import MAX_TIMEOUT, BackendConfig
from daemon.backends.configurations.errors import ConfigurationError
from daemon.backends.configurations.local import SequentialConfig
from daemon.backends.named import Backends, undescribed
from daemon.control import BAD_CONFIGURATION, Handler, ServiceError
from daemon.event_operations import our_proposal
from daemon.jobs.job import Job, Work

if TYPE_CHECKING:
    from daemon.service import Service

SOURCE = "run"


class CommandOperations:
    """The operations on commands of one service."""

    def __init__(self, service: "Service") -> None:
        """Answer for `service`."""
        self._service = service
        self.handlers: Mapping[str, Handler] = {"run": self.run}

    async def run(
        self,
        backend: str,
        command: str | None = None,
        configuration: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """Queue a command for `backend`, or what its configuration has: {"jobs": [{"id"}]}.

        `configuration` is what is to be used under that name for this once; `timeout` is in
        seconds, else that of the configuration.
        """
        backends = self._service.backends
        config = await chosen_backend(backends, backend, configuration)
        if isinstance(config, SequentialConfig):
            words = "a command runs on a backend: take `local` for this machine"
            raise ServiceError(words, BAD_CONFIGURATION)
        if timeout is not None and not 0 < timeout <= MAX_TIMEOUT:
            words = f"a job can take up to {MAX_TIMEOUT} s, not {timeout:g}"
            raise ServiceError(words, BAD_CONFIGURATION)
        asked = {
            "command": command or command_of(backend, config),
            "shell": getattr(config, "shell", True),
            "capture_output": getattr(config, "capture_output", True),
            "timeout": timeout,
        }
        if configuration is not None:
            backend = await asyncio.to_thread(backends.once, backend, config)
        job = await queue_command(self._service, backend, asked)
        return {"jobs": [{"id": job.id}]}


async def queue_command(service: "Service", backend: str, asked: Mapping[str, Any]) -> Job:
    """Queue a job of `backend` that is a command: what is `asked` becomes part of its request.

    Raises ServiceError while the database has no proposal.
    """
    work = Work(
        proposal=our_proposal(service),
        run=0,
        data="all",
        source=SOURCE,
        live=False,
        backend=backend,
        command=asked,
    )
    [job] = await service.submit([work])
    return job


async def chosen_backend(
    backends: Backends, name: str, configuration: Mapping[str, Any] | None
) -> BackendConfig:
    """What somebody wants to use: the backend of that name, or a `configuration` for this once.

    Raises ServiceError.
    """
    try:
        if configuration is not None:
            return undescribed(configuration)
        return await asyncio.to_thread(backends.configuration, name)
    except (ConfigurationError, OSError) as error:
        raise ServiceError(str(error), BAD_CONFIGURATION) from error


def command_of(backend: str, config: BackendConfig) -> str:
    """The command that a configuration of this name has. Raises ServiceError when it has none."""
    command = getattr(config, "command", None)
    if command:
        return str(command)
    if {"executable", "mpiexec"} & config.model_fields_set:
        executable = shlex.quote(config.executable)  # type: ignore[attr-defined]  # containers'
        mpiexec: str = getattr(config, "mpiexec", "")
        if not mpiexec:
            return executable
        counted = any(word in ("-n", "-np", "--n") for word in shlex.split(mpiexec))
        cores = "" if counted else f" -n {getattr(config, 'cpu', 1)}"
        return f"{mpiexec}{cores} {executable}"
    words = f"backend {backend!r} has no command: give one, as `run -- COMMAND`"
    raise ServiceError(words, BAD_CONFIGURATION)
