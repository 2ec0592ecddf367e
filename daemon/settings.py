"""The settings of a database folder: what `db-config` reads and writes, typed and checked.

They are rows of the table `metameta`, where DAMNIT keeps its own; the names that it has too mean
the same here.
"""

import os
from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, PrivateAttr

from ctxlib.parameter import Scalar
from ctxlib.run_pattern import DEFAULT as DEFAULT_PATTERN
from ctxlib.run_pattern import RunPattern
from ctxlib.sources import DEFAULT as DEFAULT_SOURCE
from daemon import parameters
from daemon.setting_forms import (
    AbsolutePath,
    BackendName,
    FileName,
    HostName,
    Limit,
    Reserve,
    RunFolders,
    SandboxCommand,
    SlurmName,
    SlurmTime,
    SourceName,
)
from daemon.typed_settings import TypedSettings

UMASKS = {"owner": 0o077, "group": 0o007, "all": 0o002}


def _cores() -> int:
    return len(os.sched_getaffinity(0))


class Settings(TypedSettings):
    """All settings of one folder."""

    READ_ONLY: ClassVar[frozenset[str]] = frozenset({"db_id", "data_format_version"})
    _warnings: list[str] = PrivateAttr(default_factory=list)
    _params: dict[str, Scalar] = PrivateAttr(default_factory=dict)

    proposal: int | None = Field(None, ge=1, le=999_999, description="number of the proposal")
    proposal_path: AbsolutePath | None = Field(
        None, description="folder with raw/ and proc/, when it is not found by the number"
    )
    run_pattern: RunFolders = Field(
        DEFAULT_PATTERN.text, description="where runs are below proposal_path"
    )
    source: SourceName = Field(
        DEFAULT_SOURCE, description="how runs are opened: euxfel, hdf5, mock or a package's own"
    )
    context_python: AbsolutePath | None = Field(
        None, description="Python that runs the context file; the daemon's own when not set"
    )
    sandbox_args: SandboxCommand | None = Field(
        None, description="command in which the context file runs, as bwrap with its arguments"
    )
    noncluster_cpus: int = Field(4, ge=1, le=4096, description="cores that one local job may use")
    noncluster_mem: Limit = Field("25G", description="memory that one local job may use")
    noncluster_backend: BackendName = Field(
        "local", description="backend of variables that name none: local, or cluster for Slurm"
    )
    local_jobs: int = Field(
        default_factory=_cores,
        ge=1,
        le=1024,
        description="local jobs at once; as many as there are cores when not set",
    )
    memory_reserve: Reserve = Field(
        "1G", description="free memory below which no other local job is started"
    )
    job_timeout: int = Field(
        7200,
        ge=60,
        le=86400,
        description="seconds after which a job is ended whose backend no file describes",
    )
    settle_seconds: float = Field(
        10.0, ge=0, le=3600, description="seconds without a change after which a run is complete"
    )
    marker_file: FileName | None = Field(
        None, description="file that says a run folder is complete, when something writes one"
    )
    process_start: Literal["fork", "fresh"] = Field(
        "fork", description="fork: jobs start from a warm process; fresh: from a new interpreter"
    )
    idle_seconds: int = Field(
        600, ge=0, le=86400, description="seconds after which an idle warm process ends"
    )
    max_servers: int = Field(4, ge=1, le=64, description="warm processes kept at most")
    max_attempts: int = Field(
        3, ge=1, le=100, description="attempts of a job whose place to run was lost"
    )
    host_heartbeat_ttl: int = Field(
        60, ge=30, le=86400, description="seconds without a sign after which a host counts as gone"
    )
    worker_stale_grace_seconds: int = Field(
        120, ge=0, le=86400, description="seconds more until what ran on that host is lost"
    )
    queue_claim_ttl: int = Field(
        300, ge=10, le=86400, description="seconds within which a process takes a job given to it"
    )
    job_status_ttl: int = Field(
        300, ge=30, le=86400, description="seconds without a sign after which a job hangs"
    )
    stop_grace: int = Field(
        10, ge=0, le=3600, description="seconds that local jobs get when the daemon stops"
    )
    keep_jobs_days: int = Field(
        14, ge=1, le=3650, description="days that folders and records of ended jobs are kept"
    )
    supervisor_host: HostName = Field(
        "127.0.0.1", description="address on which supervisorctl is answered"
    )
    web_host: HostName = Field("127.0.0.1", description="address on which the web listens")
    web_port: int = Field(
        0, ge=0, le=65535, description="port on which the web listens; 0: a free one each time"
    )
    share_with: Literal["owner", "group", "all"] = Field(
        "group",
        description="whom new files are for: owner; group: may write too; all: others may read",
    )
    slurm_partition: SlurmName | None = Field(
        None, description="Slurm partition; chosen by your groups when not set"
    )
    slurm_reservation: SlurmName | None = Field(
        None, description="Slurm reservation, which goes before the partition"
    )
    slurm_time: SlurmTime | None = Field(None, description="Slurm time limit of cluster jobs")
    concurrent_jobs: int = Field(15, ge=1, le=1000, description="Slurm jobs at once")
    damnit_python: AbsolutePath | None = Field(
        None, description="Python of the DAMNIT that uses the folder too; kept for it"
    )
    db_id: str | None = Field(None, description="identifies this database; made with it")
    data_format_version: int = Field(4, description="version of the tables; made with them")

    @property
    def warnings(self) -> list[str]:
        """Stored values that could not be used, each in words with what was taken instead."""
        ours = type(self).model_fields["data_format_version"].default
        if self.data_format_version <= ours:
            return list(self._warnings)
        newer = (
            f"runs.sqlite has format version {self.data_format_version}, newer than {ours}: only "
            "the tables that are known here are used"
        )
        return [newer, *self._warnings]

    @property
    def params(self) -> dict[str, Scalar]:
        """The values of the context file's parameters (rows `param.<name>`)."""
        return dict(self._params)

    @property
    def umask(self) -> int:
        """The umask under which this folder's files are made (`share_with`)."""
        return UMASKS[self.share_with]

    @property
    def runs(self) -> RunPattern:
        """Where runs are below the proposal's folder (`run_pattern`)."""
        return RunPattern(self.run_pattern)

    @classmethod
    def from_rows(cls, rows: Mapping[str, object]) -> Self:
        """Make settings from the rows of `metameta`.

        Rows of other programs are left out. A value that cannot be used counts as not set and
        is named in `warnings`.
        """
        values, warnings = cls.usable(rows)
        settings = cls.model_validate(values)
        settings._params, unusable = parameters.from_rows(rows)
        settings._warnings = warnings + unusable
        return settings
