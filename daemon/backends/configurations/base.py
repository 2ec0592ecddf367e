"""What all configurations have in common, and how their values are checked."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from daemon.backends.configurations.fields import Line, Number, Script, Variables, variable_name
from daemon.backends.configurations.managers import ManagerClass
from daemon.backends.configurations.secrets import Secret

MIN_TIMEOUT, MAX_TIMEOUT = 60, 86400


class BackendConfig(BaseModel, ABC):
    """Where and how jobs run. A way of your own is a subclass with `manager_class`.

    Only what is wrong wherever it is read is refused here: what depends on the host, such as
    folders that have to be there, is told by `check_host`, called where jobs would run.
    """

    model_config = ConfigDict(
        extra="forbid", validate_assignment=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    COMMAND_FIELDS: ClassVar[tuple[str, ...]] = ()
    """The fields that mean something to jobs with a command of their own only."""
    PATH_FIELDS: ClassVar[tuple[str, ...]] = ("working_dir",)
    """The fields with a path on the host that may be relative to the file they stand in."""
    HAS_TIME_LIMIT: ClassVar[bool] = False
    """Whether what runs the jobs ends them by itself when their time is over."""

    type: str = Field("", validate_default=True, description="the kind of configuration")
    timeout: Number = Field(
        3600, ge=MIN_TIMEOUT, le=MAX_TIMEOUT, description="seconds after which a job is ended"
    )
    env_vars: Variables = Field(
        default_factory=dict,
        repr=False,
        description="environment variables of the job, on top of those that it has anyway",
    )
    secret_env_vars: dict[str, Secret] = Field(
        default_factory=dict,
        description="environment variables whose values are secrets: env:NAME or file:/path each",
    )
    working_dir: Line | None = Field(
        None,
        description="folder in which the job runs; the context file's, or the database's, when not "
        "given",
    )

    @classmethod
    @abstractmethod
    def manager_class(cls) -> ManagerClass:
        """Return the class that runs jobs in this way; raises NoManager when there is none yet."""

    @classmethod
    def type_name(cls) -> str:
        """The `type` of these configurations: as declared, else the class's name without Config."""
        declared = cls.model_fields["type"].default
        return declared or cls.__name__.removesuffix("Config").lower()

    @field_validator("type")
    @classmethod
    def _type(cls, value: str) -> str:
        own = cls.type_name()
        if value not in ("", own):
            raise ValueError(f"is {own} for these configurations, not {value}")
        return own

    @field_validator("secret_env_vars")
    @classmethod
    def _secret_names(cls, values: dict[str, Secret]) -> dict[str, Secret]:
        for name in values:
            variable_name(name)
        return values

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field as if the configuration were made with it: refused, nothing has changed."""
        before, given = dict(self.__dict__), set(self.model_fields_set)
        try:
            super().__setattr__(name, value)
        except ValidationError:
            self.__dict__.update(before)  # pydantic checks fields against each other too late
            self.model_fields_set.intersection_update(given)
            raise

    def check_host(self) -> list[str]:
        """What stands in the way of using this on the host where it is called, in words."""
        problems = [words for secret in self.secrets().values() for words in secret.check_host()]
        if self.working_dir is not None:
            problems += folder_problems("Working directory", Path(self.working_dir))
        return problems

    def resolved(self) -> Self:
        """This configuration with what only the host where it is called can know filled in."""
        return self

    def located(self, folder: Path) -> Self:
        """This configuration with absolute paths: ~ is the home folder, the rest is in `folder`."""
        given = {name: getattr(self, name) for name in self.PATH_FIELDS}
        absolute = {
            name: str(folder / Path(path).expanduser())
            for name, path in given.items()
            if path is not None
        }
        return self.model_copy(update=absolute)

    def secrets(self) -> dict[str, Secret]:
        """The places of all secrets, by the field (`token`, `secret_env_vars.KEY`)."""
        own = {n: value for n, value in self if isinstance(value, Secret)}
        return own | {f"secret_env_vars.{n}": v for n, v in self.secret_env_vars.items()}

    def environment(self, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
        """The variables that the job gets, secrets included: never for a command line or a log.

        Raises SecretError.
        """
        secrets = {n: secret.read(environment) for n, secret in self.secret_env_vars.items()}
        return {**self.env_vars, **secrets}

    def command_fields(self) -> list[str]:
        """The fields for jobs with a command that are set; jobs of variables refuse them."""
        return [
            name
            for name in self.COMMAND_FIELDS
            if getattr(self, name) != type(self).model_fields[name].default
        ]

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a YAML, JSON or URI file of this type. Raises ConfigurationError and OSError."""
        from daemon.backends.configurations.files import read

        config = read(Path(path), cls)
        assert isinstance(config, cls), "read refuses other types"
        return config


class CommandConfig(BackendConfig, ABC):
    """A configuration whose jobs may be a command instead of variables of a context file."""

    COMMAND_FIELDS = ("command", "shell", "capture_output")

    command: Script | None = Field(
        None, description="what jobs with a command execute; not for jobs of variables"
    )
    shell: bool = Field(
        True, description="a shell executes the command; else it is a program with its arguments"
    )
    capture_output: bool = Field(
        True, description="the command's output goes to the job's log; else it is thrown away"
    )


def folder_problems(what: str, path: Path) -> list[str]:
    """What is wrong with `path`, called `what`, where a folder has to be."""
    if not path.exists():
        return [f"{what} does not exist: {path}"]
    return [] if path.is_dir() else [f"{what} is not a directory: {path}"]
