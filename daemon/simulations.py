"""Jobs that are described by a file: agents run a backend's command on it, as it was when asked.

The files are in `configs/` of the database's folder. The command, or the image when there is none,
gets `--config PATH --job_id ID` as arguments.
"""

import asyncio
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ctxlib.whole_file import write_whole
from daemon.backends.agent_ticket import CONFIG
from daemon.backends.configurations.agent import AgentConfig
from daemon.backends.configurations.errors import ConfigurationError
from daemon.backends.configurations.plain import from_yaml
from daemon.command_operations import chosen_backend, queue_command
from daemon.control import BAD_CONFIGURATION, Handler, ServiceError
from daemon.jobs.job import Job

if TYPE_CHECKING:
    from daemon.service import Service

FOLDER = "configs"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\.ya?ml")
UNKNOWN = "unknown_config"


class SimulationOperations:
    """The operations on such jobs, and on their files, of one service."""

    def __init__(self, service: "Service") -> None:
        """Answer for `service`."""
        self._service = service
        self.handlers: Mapping[str, Handler] = {
            "simulate": self.simulate,
            "simulation-configs": self.configs,
            "simulation-config": self.config,
            "save-simulation-config": self.save,
            "delete-simulation-config": self.delete,
        }

    @property
    def _folder(self) -> Path:
        return self._service.folder / FOLDER

    async def simulate(
        self,
        backend: str,
        config: Mapping[str, Any] | None = None,
        config_path: str | None = None,
        target_host: str | None = None,
        save_as: str | None = None,
    ) -> dict[str, Any]:
        """Queue a job for agents: {"job_id", "status", "host", "job_name"}.

        Either `config`, kept as `save_as` if that is given, or `config_path` describes it; no other
        agent than `target_host` gets it.
        """
        if (config is None) == (config_path is None):
            wrong = "Missing config or config_path" if config is None else "config or config_path"
            raise ServiceError(f"{wrong}: one of them says what the job is")
        try:
            where = await chosen_backend(self._service.backends, backend, None)
        except ServiceError as error:
            mend = f"backends/{backend}.yml has to say `type: agent` and `image: …` or `command: …`"
            raise ServiceError(f"{error}; {mend}", error.code) from error
        command = _command(backend, where)
        file = config_path if config is None else save_as
        name = None if file is None else _name(file)
        if config is not None:
            text = _dumped(config)
            if name is not None:
                await self.save(config, name)
        else:
            text = await asyncio.to_thread(self._read, str(name))
        asked = {**command, **_names(text), "config": text, "timeout": None}
        if name is not None:
            asked["config_path"] = f"{FOLDER}/{name}"
        if target_host is not None:
            asked |= {"preferred_host": target_host, "require_host": True}
        job = await queue_command(self._service, backend, asked)
        told = {"job_id": job.id, "status": job.state, "host": target_host}
        return {**told, "job_name": asked["name"]}

    async def configs(self) -> dict[str, Any]:
        """The names of the files that there are."""
        found = await asyncio.to_thread(lambda: sorted(p.name for p in self._folder.glob("*.y*ml")))
        return {"files": [name for name in found if NAME.fullmatch(name)]}

    async def config(self, file_name: str) -> dict[str, Any]:
        """What is in a file."""
        return {"config": _loaded(await asyncio.to_thread(self._read, _name(file_name)))}

    async def save(self, config: Mapping[str, Any], file_name: str) -> dict[str, Any]:
        """Write a file, in place of what was there."""
        name, text = _name(file_name), _dumped(config)

        def write() -> None:
            self._folder.mkdir(exist_ok=True)
            write_whole(self._folder / name, text.encode())

        try:
            await asyncio.to_thread(write)
        except OSError as error:
            raise ServiceError(f"{FOLDER}/{name} cannot be written: {error}") from error
        return {"message": "Config saved", "file": name}

    async def delete(self, file_name: str) -> dict[str, Any]:
        """Delete a file; jobs that were asked for have it as it was."""
        name = _name(file_name)
        try:
            await asyncio.to_thread((self._folder / name).unlink)
        except FileNotFoundError as error:
            raise self._unknown(name) from error
        except OSError as error:
            raise ServiceError(f"{FOLDER}/{name} cannot be deleted: {error}") from error
        return {"message": "Config deleted", "file": name}

    def _read(self, name: str) -> str:
        try:
            return (self._folder / name).read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise self._unknown(name) from error
        except (OSError, ValueError) as error:
            raise ServiceError(f"{FOLDER}/{name} cannot be read: {error}") from error

    def _unknown(self, name: str) -> ServiceError:
        return ServiceError(f"there is no {name} in {self._folder}", UNKNOWN)


def described(job: Job, folder: Path) -> dict[str, Any]:
    """What `job.json` says of the command of `job`: with its arguments, now that it has an id."""
    command = dict(job.command or {})
    if "config" in command:
        path = folder / "jobs" / job.id / CONFIG
        arguments = shlex.join(["--config", str(path), "--job_id", job.id])
        command["command"] = f"{command['command']} {arguments}".lstrip()
        command.setdefault("config_path", f"jobs/{job.id}/{CONFIG}")
    return command


def _command(backend: str, config: object) -> dict[str, Any]:
    """What the configuration says of the command; a container's own needs no shell."""
    if not isinstance(config, AgentConfig):
        words = f"backend {backend!r} is not of the type agent, which these jobs are for"
        raise ServiceError(words, BAD_CONFIGURATION)
    if config.command is None and config.image is None:
        words = (
            f"backend {backend!r} says neither which image nor which command reads the config: "
            f"write `image: …` or `command: …` into backends/{backend}.yml"
        )
        raise ServiceError(words, BAD_CONFIGURATION)
    shell = config.command is not None and config.shell
    return {"command": config.command or "", "shell": shell, "capture_output": True}


def _names(text: str) -> dict[str, str]:
    """What the job is called by what its file says."""
    found = _loaded(text).get("experiment")
    said = found if isinstance(found, dict) else {}
    experiment = str(said.get("name") or "UnnamedExperiment")
    run = str(said.get("run_name") or "UnnamedRun")
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{experiment}-{run}")[:100]
    return {"name": name, "experiment_name": experiment[:100], "run_name": run[:100]}


def _name(text: str) -> str:
    """The name of a file, which may stand with its folder; raises ServiceError."""
    name = text.lstrip("/").removeprefix(f"{FOLDER}/")
    if NAME.fullmatch(name) is None:
        raise ServiceError(
            f"{text!r} is no name of a file in {FOLDER}/: letters, digits, '.', '_' and '-', and "
            ".yaml or .yml at the end"
        )
    return name


def _dumped(config: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)


def _loaded(text: str) -> dict[str, Any]:
    try:
        found = from_yaml(text)
    except ConfigurationError as error:
        raise ServiceError(f"the config: {error}") from error
    if not isinstance(found, dict):
        raise ServiceError("the config is no mapping, as `experiment: {name: Demo}` would be one")
    return found
