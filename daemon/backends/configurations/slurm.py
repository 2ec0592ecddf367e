"""Jobs of Slurm, submitted on this machine; what the other ways to Slurm have in common with it."""

import re
import shutil
from abc import ABC
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, AliasChoices, ConfigDict, Field, model_validator

from daemon.backends.configurations.base import CommandConfig
from daemon.backends.configurations.fields import AbsolutePath, Line, Number, Strict
from daemon.backends.configurations.managers import ManagerClass, manager_at

PROGRAMS = ("sbatch", "squeue", "scancel")
OURS = frozenset(
    {"--array", "--comment", "--dependency", "--wrap", "--parsable", "--error", "--output"}
    | {"--job-name", "--time", "--partition", "--reservation", "--chdir", "--requeue"}
    | {"--no-requeue", "--hold", "--test-only"}
    | {"-a", "-d", "-e", "-o", "-J", "-t", "-p", "-D", "-H"}
)
"""Options that are set for every job, or from fields: they are not taken as additional ones."""

_NAME = re.compile(r"[\w.,:+@%=-]+")
_NODES = re.compile(r"[\w.,\[\]-]+")
_TIME = re.compile(r"\d{1,4}:[0-5]\d:[0-5]\d|\d{1,3}-([01]?\d|2[0-3])(:[0-5]\d){0,2}")
_ADDRESS = re.compile(r"[\w.+-]+(@[\w.-]+)?")
MailType = Literal["NONE", "BEGIN", "END", "FAIL", "REQUEUE", "ALL", "TIME_LIMIT"]


def _name(text: str) -> str:
    if _NAME.fullmatch(text) is None or text.startswith("-"):
        raise ValueError("must be a name as Slurm knows it: letters, digits and . _ - + @ , : % =")
    return text


def _nodes(text: str) -> str:
    if _NODES.fullmatch(text) is None or text.startswith("-"):
        raise ValueError("must be a node or several, as max-exfl123 or n[1-4]")
    return text


def _time(text: str) -> str:
    if _TIME.fullmatch(text) is None:
        raise ValueError('must be hours:minutes:seconds or days-hours, as "1:30:00" or "2-12"')
    return text


def _address(text: str) -> str:
    if _ADDRESS.fullmatch(text) is None:
        raise ValueError("must be a user or an address, as name@example.org")
    return text


def _option(text: str) -> str:
    name = text.partition("=")[0].split()[0]
    if not name.startswith("-"):
        raise ValueError(f"{text!r} is no option: write it as sbatch has it, as --exclusive")
    if name in OURS or (not name.startswith("--") and name[:2] in OURS):
        raise ValueError(f"{name} is not for additional_options: jobs get it from elsewhere")
    return text


SlurmName = Annotated[Line, AfterValidator(_name)]
Nodes = Annotated[Line, AfterValidator(_nodes)]
TimeLimit = Annotated[Strict, AfterValidator(_time)]
Address = Annotated[Line, AfterValidator(_address)]
Option = Annotated[Line, AfterValidator(_option)]


class SlurmCommon(CommandConfig, ABC):
    """What jobs of Slurm need, however they get there."""

    PATH_FIELDS: ClassVar[tuple[str, ...]] = ("working_dir", "output_file", "error_file")
    HAS_TIME_LIMIT: ClassVar[bool] = True

    partition: SlurmName | None = Field(
        None,
        validation_alias=AliasChoices("partition", "queue"),
        description="partition, also written queue; the best that the user may use when not given",
    )
    reservation: SlurmName | None = Field(
        None, description="reservation; it has its own nodes and wins over the partition"
    )
    explicit_node: Nodes | None = Field(
        None,
        validation_alias=AliasChoices("explicit_node", "nodelist"),
        description="node, or list of nodes, to run on",
    )
    account: SlurmName | None = Field(None, description="account to charge")
    qos: SlurmName | None = Field(None, description="quality of service")
    nodes: Number = Field(1, ge=1, le=100, description="nodes for one job")
    ntasks: Number = Field(1, ge=1, description="tasks of one job")
    cpus_per_task: Number | None = Field(
        None, ge=1, le=128, description="cores for one task; Slurm's default when not given"
    )
    memory: Annotated[str, Field(strict=True, pattern=r"^[1-9]\d*[KMGTkmgt]?$")] | None = Field(
        None, description="memory per node, as 16G; Slurm's default when not given"
    )
    time_limit: TimeLimit = Field(
        "1:00:00",
        description="time after which Slurm ends a job: hours:minutes:seconds or days-hours",
    )
    concurrent_jobs: Number | None = Field(
        None, ge=1, le=1000, description="jobs at once; the setting concurrent_jobs when not given"
    )
    job_name: SlurmName | None = Field(
        None, description="name in squeue; run, proposal and program when not given"
    )
    output_file: Line | None = Field(
        None, description="file for Slurm's output of a job; the run's log when not given"
    )
    error_file: Line | None = Field(
        None, description="file for Slurm's error output; with the output when not given"
    )
    mail_type: MailType | None = Field(None, description="when Slurm writes a mail")
    mail_user: Address | None = Field(None, description="to whom")
    additional_options: list[Option] = Field(
        default_factory=list, description="more options of sbatch, as --exclusive or --gres=gpu:1"
    )
    python: AbsolutePath | None = Field(
        None, description="Python for the context file there; context_python when not given"
    )
    database_path: AbsolutePath | None = Field(
        None, description="the database's folder as jobs see it, where that is another path"
    )

    @model_validator(mode="after")
    def _mail_needs_both(self) -> Self:
        if self.mail_user is not None and self.mail_type is None:
            raise ValueError("mail_user needs mail_type, as END")
        return self

    def resolved(self) -> Self:
        """With what stands elsewhere at the moment, for those that name such a place."""
        return self


class SlurmConfig(SlurmCommon):
    """Jobs of the Slurm whose commands are on this machine."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"type": "slurm", "partition": "upex", "time_limit": "2:00:00"},
                {
                    "type": "slurm",
                    "reservation": "upex_001234",
                    "cpus_per_task": 40,
                    "memory": "128G",
                    "additional_options": ["--gres=gpu:1"],
                },
            ]
        }
    )

    type: Literal["slurm"] = "slurm"

    @classmethod
    def manager_class(cls) -> ManagerClass:
        """The manager for all ways to Slurm."""
        return manager_at("slurm.manager", "SlurmManager")

    def check_host(self) -> list[str]:
        """Besides what all check: whether Slurm's commands are there."""
        missing = [name for name in PROGRAMS if shutil.which(name) is None]
        words = [f"{name} is not on PATH: run on a machine of the cluster" for name in missing]
        return super().check_host() + words
