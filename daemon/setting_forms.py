"""The forms that settings have beside numbers; each with the words that say what would be right."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from ctxlib.memory import LEAST, parse_memory
from ctxlib.run_pattern import RunPattern
from daemon import sandbox


def _enough_memory(text: str) -> str:
    if parse_memory(text) < LEAST:
        raise ValueError("less than 64M")
    return text


def _memory(text: str) -> str:
    parse_memory(text)
    return text


def _matching(pattern: str) -> AfterValidator:
    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError("has another form")
        return text

    return AfterValidator(check)


def _run_pattern(text: str) -> str:
    return RunPattern(text).text


def _absolute(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("is no absolute path")
    return text.rstrip("/") or "/"


def _flag(value: object) -> object:
    words = {"true": 1, "false": 0, "1": 1, "0": 0}
    return words.get(value.strip().lower(), value) if isinstance(value, str) else value


_MEMORY = "a number with its unit, as 25G or 512M"
AbsolutePath = Annotated[str, AfterValidator(_absolute), Field(title="an absolute path")]
BackendName = Annotated[
    str,
    _matching(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"),
    Field(title="the name of a backend: local, cluster, or of a configuration in backends/"),
]
FileName = Annotated[
    str, _matching(r"[^/\0]+"), Field(title="the name of a file, without a folder")
]
Flag = Annotated[Literal[0, 1], BeforeValidator(_flag), Field(title="1 (yes) or 0 (no)")]
HostName = Annotated[
    str, _matching(r"[A-Za-z0-9_.:-]+"), Field(title="a host name or an IP address")
]
Limit = Annotated[str, AfterValidator(_enough_memory), Field(title=f"{_MEMORY}, 64M or more")]
Reserve = Annotated[str, AfterValidator(_memory), Field(title=_MEMORY)]
RunFolders = Annotated[
    str,
    AfterValidator(_run_pattern),
    Field(
        title="the path of a run's folder below proposal_path, with {run} once for its number and, "
        "where they are apart, {data} for raw or proc, as {data}/r{run:04d}"
    ),
]
SandboxCommand = Annotated[
    str,
    AfterValidator(sandbox.checked),
    Field(title="a command with its arguments, as a shell takes it"),
]
SlurmName = Annotated[str, _matching(r"[\w.,+-]+"), Field(title="a name as Slurm knows it")]
SlurmTime = Annotated[
    str,
    _matching(r"\d+(:\d\d){0,2}|\d+-\d+(:\d\d){0,2}"),
    Field(title="a time limit of Slurm's, as 02:00:00 or 1-12"),
]
SourceName = Annotated[
    str, _matching(r"[\w.-]+"), Field(title="the name of a source of runs, as euxfel or hdf5")
]
