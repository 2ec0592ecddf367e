"""The settings of a database folder: what `db-config` reads and writes, typed and checked.

They are rows of the table `metameta`, where DAMNIT keeps its own; the names that it has too mean
the same here.
"""

import difflib
import os
import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
)

from ctxlib.memory import LEAST, parse_memory
from ctxlib.parameter import Scalar
from ctxlib.run_pattern import DEFAULT as DEFAULT_PATTERN
from ctxlib.run_pattern import RunPattern
from ctxlib.sources import DEFAULT as DEFAULT_SOURCE
from daemon import parameters, sandbox

Value = int | float | str

READ_ONLY = frozenset({"db_id", "data_format_version"})
UMASKS = {"owner": 0o077, "group": 0o007, "all": 0o002}
_SLURM_TIME = re.compile(r"\d+(:\d\d){0,2}|\d+-\d+(:\d\d){0,2}")
_SLURM_NAME = re.compile(r"[\w.,+-]+")
_HOST = re.compile(r"[A-Za-z0-9_.:-]+")


class SettingError(ValueError):
    """A setting does not exist or cannot have this value; says what would be right."""


def _enough_memory(text: str) -> str:
    if parse_memory(text) < LEAST:
        raise ValueError("less than 64M")
    return text


def _memory(text: str) -> str:
    parse_memory(text)
    return text


def _matching(pattern: re.Pattern[str]) -> AfterValidator:
    def check(text: str) -> str:
        if pattern.fullmatch(text) is None:
            raise ValueError("has another form")
        return text

    return AfterValidator(check)


def _run_pattern(text: str) -> str:
    return RunPattern(text).text


def _absolute(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("is no absolute path")
    return text.rstrip("/") or "/"


# Each form comes with the words that say what would be right.
_PATH = "an absolute path"
_MEMORY_WORDS = "a number with its unit, as 25G or 512M"
_NAME = "a name as Slurm knows it"
_PATTERN_WORDS = (
    "the path of a run's folder below proposal_path, with {run} once for its number and, "
    "where they are apart, {data} for raw or proc, as {data}/r{run:04d}"
)
_SOURCE_WORDS = "the name of a source of runs, as euxfel or hdf5"
_HOST_WORDS = "a host name or an IP address"
_SANDBOX_WORDS = "a command with its arguments, as a shell takes it"
AbsolutePath = Annotated[str, AfterValidator(_absolute), Field(title=_PATH)]
Limit = Annotated[str, AfterValidator(_enough_memory), Field(title=f"{_MEMORY_WORDS}, 64M or more")]
Reserve = Annotated[str, AfterValidator(_memory), Field(title=_MEMORY_WORDS)]
SlurmName = Annotated[str, _matching(_SLURM_NAME), Field(title=_NAME)]
SlurmTime = Annotated[
    str, _matching(_SLURM_TIME), Field(title="a time limit of Slurm's, as 02:00:00 or 1-12")
]
FileName = Annotated[
    str, _matching(re.compile(r"[^/\0]+")), Field(title="the name of a file, without a folder")
]
RunFolders = Annotated[str, AfterValidator(_run_pattern), Field(title=_PATTERN_WORDS)]
SourceName = Annotated[str, _matching(re.compile(r"[\w.-]+")), Field(title=_SOURCE_WORDS)]
BackendName = Annotated[
    str,
    _matching(re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")),
    Field(title="the name of a backend: local, cluster, or of a configuration in backends/"),
]
HostName = Annotated[str, _matching(_HOST), Field(title=_HOST_WORDS)]
SandboxCommand = Annotated[str, AfterValidator(sandbox.checked), Field(title=_SANDBOX_WORDS)]


def _cores() -> int:
    return len(os.sched_getaffinity(0))


class Settings(BaseModel):
    """All settings of one folder. Fields without a value of their own have their default."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", coerce_numbers_to_str=True, allow_inf_nan=False
    )
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
        7200, ge=60, le=86400, description="seconds after which a job is ended"
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
        values: dict[str, object] = {}
        warnings: list[str] = []
        for key, stored in rows.items():
            if key not in cls.model_fields or stored is None:
                continue
            try:
                values[key] = _validated(key, stored)
            except SettingError as error:
                default = cls.model_fields[key].get_default(call_default_factory=True)
                warnings.append(f"{error}; taken instead: {default}")
        settings = cls.model_validate(values)
        settings._params, unusable = parameters.from_rows(rows)
        settings._warnings = warnings + unusable
        return settings


def normalise(key: str) -> str:
    """Return `key` as it is stored: dashes are underscores."""
    return key.strip().replace("-", "_")


def known(key: str) -> str:
    """Return the stored name of a setting; raises SettingError with the nearest ones."""
    name = normalise(key)
    if name in Settings.model_fields:
        return name
    nearest = difflib.get_close_matches(name, Settings.model_fields, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(nearest)}?" if nearest else "db-config lists all settings"
    raise SettingError(f"there is no setting {key!r}: {hint}")


def writable(key: str) -> str:
    """Return the stored name of a setting that may be changed; raises SettingError."""
    name = known(key)
    if name in READ_ONLY:
        raise SettingError(f"{name} belongs to the database and cannot be changed")
    return name


def parse(key: str, text: str, number: bool = False) -> Value:
    """Return what is to be stored for the `text` that a user gave for the setting `key`.

    With `number` the text must be a number. Raises SettingError.
    """
    name = writable(key)
    if number:
        try:
            float(text)
        except ValueError:
            raise SettingError(f"{name}: {text!r} is no number") from None
    value = _validated(name, text.strip())
    assert value is not None, "text never becomes None"
    return value


def right(key: str) -> str:
    """Say in words which values the setting `key` takes."""
    field = Settings.model_fields[key]
    schema = Settings.model_json_schema()["properties"][key]
    [form] = [part for part in schema.get("anyOf", [schema]) if part.get("type") != "null"]
    if "enum" in form:
        return " or ".join(form["enum"])
    if form.get("type") in ("integer", "number"):
        kind = "a whole number" if form["type"] == "integer" else "a number"
        limits = {name: limit for part in field.metadata for name, limit in _limits(part)}
        return f"{kind} from {limits['ge']} to {limits['le']}"
    return str(form["title"])


def describe() -> list[tuple[str, object, str]]:
    """Return (key, default, meaning) of every setting, in the order in which to show them."""
    return [
        (key, field.get_default(call_default_factory=True), field.description or "")
        for key, field in Settings.model_fields.items()
    ]


def _limits(part: object) -> list[tuple[str, object]]:
    return [(name, getattr(part, name)) for name in ("ge", "le") if hasattr(part, name)]


def _validated(key: str, value: object) -> Value | None:
    try:
        checked: Value | None = getattr(Settings.model_validate({key: value}), key)
    except ValidationError:
        words = right(key) if key not in READ_ONLY else "what the database was made with"
        raise SettingError(f"{key} cannot be {value!r}: it must be {words}") from None
    return checked
