"""Jobs of Slurm through its REST service, slurmrestd."""

import getpass
import re
import shlex
import shutil
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from daemon.backends.configurations.fields import Line, Number, Strict
from daemon.backends.configurations.managers import ManagerClass, manager_at
from daemon.backends.configurations.secrets import Secret
from daemon.backends.configurations.slurm import SlurmCommon

OPTIONS = ("--constraint", "--exclude", "--exclusive", "--gpus", "--gres", "--licenses", "--nice")
"""Options of sbatch that can be said over HTTP."""

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\]")
_PATH = re.compile(r"(/[\w.~-]+)*")
_VERSION = re.compile(r"/(v\d+\.\d+\.\d+)$")


def _host(text: str) -> str:
    if _HOST.fullmatch(text) is None:
        raise ValueError("must be a host's name or address, without http:// and port")
    return text


def _path(text: str) -> str:
    path = text.rstrip("/")
    if _PATH.fullmatch(path) is None:
        raise ValueError("must be the path of a URL, as /slurm")
    return path


class SlurmRestConfig(SlurmCommon):
    """Jobs of a Slurm that is reached over HTTP."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "slurm-rest",
                    "host": "slurm.example.org",
                    "partition": "main",
                    "token": "file:/home/user/slurm.token",
                }
            ]
        }
    )

    type: Literal["slurm-rest"] = "slurm-rest"
    host: Annotated[Line, AfterValidator(_host)] = Field(description="the machine of slurmrestd")
    port: Number | None = Field(
        None, ge=1, le=65535, description="its port; the usual one when not given"
    )
    use_http: bool = Field(False, description="http without encryption instead of https")
    path: Annotated[Strict, AfterValidator(_path)] = Field(
        "/slurm", description="path of the service, with its version (/slurm/v0.0.40) or without"
    )
    api_version: Annotated[str, Field(strict=True, pattern=r"^v\d+\.\d+\.\d+$")] | None = Field(
        None, description="version to speak, as v0.0.40; the service is asked when not given"
    )
    user: Line | None = Field(None, description="user there; the same as here when not given")
    token: Secret | None = Field(
        None, repr=False, description="token of the user; read again when its file has changed"
    )
    portal_token: Secret | None = Field(
        None, repr=False, description="password for portal_url, which hands out tokens"
    )
    portal_url: Annotated[str, Field(strict=True, pattern=r"^https?://[^\s]+$")] | None = Field(
        None, description="where a token is to be had with the user and portal_token"
    )
    token_command: Line = Field(
        "slurm_token -l 86400", description="program that prints a token, when none is given"
    )

    @classmethod
    def manager_class(cls) -> ManagerClass:
        """The manager for all ways to Slurm."""
        return manager_at("slurm.manager", "SlurmManager", "httpx", "rest")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        in_path = _VERSION.search(self.path)
        if in_path and self.api_version not in (None, in_path[1]):
            raise ValueError(f"path and api_version name two versions: leave one out ({self.path})")
        if self.portal_token is not None and self.portal_url is None:
            raise ValueError("portal_token needs portal_url")
        for option in self.additional_options:
            name, given, value = option.partition("=")
            if name not in OPTIONS or bool(given and value) == (name == "--exclusive"):
                raise ValueError(
                    f"additional_options: {option} cannot be said over HTTP: there are "
                    f"{', '.join(f'{n}=…' if n != '--exclusive' else n for n in OPTIONS)}"
                )
            if name == "--nice" and not value.lstrip("-").isdecimal():
                raise ValueError(f"additional_options: {option} needs a number")
        return self

    @property
    def version(self) -> str | None:
        """The version to speak, by `path` or `api_version`; None: the service is to be asked."""
        found = _VERSION.search(self.path)
        return found[1] if found else self.api_version

    @property
    def url(self) -> str:
        """The service's address, without version."""
        port = "" if self.port is None else f":{self.port}"
        path = _VERSION.sub("", self.path)
        return f"{'http' if self.use_http else 'https'}://{self.host}{port}{path}"

    @property
    def login(self) -> str:
        """The user in whose name jobs are submitted."""
        return self.user or getpass.getuser()

    def check_host(self) -> list[str]:
        """Besides what all check: the program for tokens, when neither token is given."""
        problems = super().check_host()
        program = shlex.split(self.token_command)[0]
        if self.token is None and self.portal_token is None and shutil.which(program) is None:
            problems.append(
                f"{program} is not on PATH: give token, as file:/path, or token_command"
            )
        return problems
