"""Jobs of Slurm on another machine, which is reached over SSH."""

import json
from datetime import date
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from daemon.backends.configurations.errors import ConfigurationError
from daemon.backends.configurations.fields import Line, Number
from daemon.backends.configurations.managers import ManagerClass, manager_at
from daemon.backends.configurations.slurm import SlurmCommon

BEAMTIMES = Path("/asap3/petra3/gpfs/p11")
"""Where a PETRA III beamline keeps its beamtimes, by year."""
DISPLAY_NODE = "max-display001.desy.de"
"""The machine to submit on when no node is reserved for a beamtime."""


def _no_option(text: str) -> str:
    if text.startswith("-"):
        raise ValueError("must not begin with -")
    return text


def _file_name(text: str) -> str:
    if "/" in text or text in (".", ".."):
        raise ValueError("must be the number of a beamtime")
    return _no_option(text)


Word = Annotated[Line, AfterValidator(_no_option)]


class SlurmSshConfig(SlurmCommon):
    """Jobs of a Slurm that another machine has, over one SSH connection that is kept."""

    PATH_FIELDS: ClassVar[tuple[str, ...]] = (
        *SlurmCommon.PATH_FIELDS,
        "key_file",
        "known_hosts",
        "beamtime_metadata",
    )
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"type": "slurm-ssh", "host": "max-display.desy.de", "partition": "upex"},
                {"type": "slurm-ssh", "beamtime_id": "11012345"},
            ]
        }
    )

    type: Literal["slurm-ssh"] = "slurm-ssh"
    host: Word | None = Field(None, description="the machine whose sbatch is used")
    port: Number = Field(22, ge=1, le=65535, description="port of its SSH server")
    user: Word | None = Field(None, description="user there; the same as here when not given")
    key_file: Line | None = Field(
        None, description="private key; the user's usual ones when not given"
    )
    known_hosts: Line | None = Field(
        None,
        description="file with the hosts' keys, always checked; ~/.ssh/known_hosts if not given",
    )
    use_additional_ssh_options: bool = Field(
        True,
        description="true: only what stands here, and nobody is asked; false: ~/.ssh/config too",
    )
    beamtime_id: Annotated[Line, AfterValidator(_file_name)] | None = Field(
        None, description="PETRA III beamtime of this year, whose metadata name host, user and key"
    )
    beamtime_metadata: Line | None = Field(
        None, description="such a metadata file, when it is not found by beamtime_id, which wins"
    )

    @classmethod
    def manager_class(cls) -> ManagerClass:
        """The manager for all ways to Slurm."""
        return manager_at("slurm.manager", "SlurmManager", "asyncssh", "ssh")

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.host is self.beamtime_id is self.beamtime_metadata is None:
            raise ValueError(
                "Either 'host' or 'beamtime_id' or 'beamtime_metadata' must be provided"
            )
        return self

    def check_host(self) -> list[str]:
        """Besides what all check: files that are named but not there."""
        problems = super().check_host()
        for name in ("key_file", "known_hosts"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                problems.append(f"{name} does not exist: {path}")
        try:
            self.resolved()
        except ConfigurationError as error:
            problems += error.problems
        return problems

    def resolved(self, year: int | None = None) -> Self:
        """With what the beamtime's metadata say for fields that are not given.

        `year` is the beamtime's, this one when None. Raises ConfigurationError.
        """
        path = self._metadata_file(year or date.today().year)
        if path is None:
            return self
        found = _online_analysis(path)
        given = {
            "host": next(iter(found.get("reservedNodes") or []), DISPLAY_NODE),
            "user": found.get("userAccount"),
            "partition": found.get("slurmPartition"),
            "reservation": found.get("slurmReservation"),
            "key_file": str(path.parent / found["sshPrivateKeyPath"])
            if found.get("sshPrivateKeyPath")
            else None,
        }
        missing = {n: v for n, v in given.items() if v is not None and getattr(self, n) is None}
        return type(self).model_validate({**self.model_dump(exclude_unset=True), **missing})

    def _metadata_file(self, year: int) -> Path | None:
        if self.beamtime_id is None:
            return None if self.beamtime_metadata is None else Path(self.beamtime_metadata)
        folder = BEAMTIMES / str(year) / "data" / self.beamtime_id
        names = [f"{kind}-metadata-{self.beamtime_id}.json" for kind in ("beamtime", "beamline")]
        for name in names:
            if (folder / name).is_file():
                return folder / name
        raise ConfigurationError(
            [f"beamtime_id: {folder / names[0]} is not there: give beamtime_metadata, or the host"]
        )


def _online_analysis(path: Path) -> dict[str, Any]:
    """What a beamtime's metadata say about computing on its own nodes."""
    try:
        found = json.loads(path.read_bytes())["onlineAnalysis"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        words = f"{path} is no metadata of a beamtime: {type(error).__name__}: {error}"
        raise ConfigurationError([words]) from None
    if not isinstance(found, dict):
        raise ConfigurationError([f"{path}: onlineAnalysis is no object"])
    return found
