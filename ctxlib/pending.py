"""Results that are not in the run file yet: those that lie in the folders of jobs under way."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctxlib import claim
from ctxlib.job_folder import FRAGMENTS, REQUEST, attempts, fragment_path
from ctxlib.journal import Entry, JournalReader
from ctxlib.known import died_error

Run = tuple[int, int]


@dataclass(frozen=True)
class Pending:
    """What a job says that a variable came to, at `time`.

    It is an error, plain data (as in the journal), a fragment, or with none of these nothing.
    """

    time: float
    error: tuple[str, str] | None = None
    data: dict[str, Any] | None = None
    fragment: Path | None = None

    @property
    def has_value(self) -> bool:
        """Whether the variable has come to something."""
        return self.data is not None or self.fragment is not None


@dataclass(frozen=True)
class PlainResult:
    """A small result from a journal, to be read like one from a run file."""

    data: dict[str, Any]

    def read(self, name: str, *, deserialize_plotly: bool = True) -> Any:  # noqa: ARG002
        """The value, with the type that it will have in the run file."""
        import numpy as np

        from ctxlib.plain import decode_plain

        value = decode_plain(self.data)
        return value if isinstance(value, str) else np.asarray(value)[()]

    def preview(self, name: str, *, deserialize_plotly: bool = True) -> None:
        """Plain results have none of their own."""

    def type_hint(self, name: str, *, preview: bool = False) -> Any:  # noqa: ARG002
        """Only a moment has one."""
        from ctxlib.runfile import DataType

        return DataType.Timestamp if self.data["type"].startswith("datetime64") else None


class PendingResults:
    """Looks through the job folders of a database for results that still lie there.

    A job's fragments go when all that it has found is in the run file; that they are gone is
    remembered, so that jobs which have ended are looked at once only.
    """

    def __init__(self, folder: Path) -> None:
        self._jobs = folder / "jobs"
        self._settled: set[str] = set()
        self._runs: dict[str, Run] = {}

    def of_run(self, proposal: int, run: int) -> dict[str, Pending]:
        """What jobs under way have said about the variables of a run, the last word on each."""
        found: dict[str, Pending] = {}
        for job_dir in self._open_jobs():
            if self._run_of(job_dir) != (proposal, run):
                continue
            for attempt_dir in attempts(job_dir):
                for name, result in _results(attempt_dir):
                    if name not in found or result.time >= found[name].time:
                        found[name] = result
        return found

    def _open_jobs(self) -> Iterator[Path]:
        try:
            names = os.listdir(self._jobs)  # noqa: PTH208 - there are many, and most are settled
        except FileNotFoundError:
            return
        for name in sorted(set(names) - self._settled):
            job_dir = self._jobs / name
            first = job_dir / "1"
            if (first / FRAGMENTS).is_dir():
                yield job_dir
            elif claim.exists(first):
                self._settled.add(name)
            elif job_dir.is_dir() and any((a / FRAGMENTS).is_dir() for a in attempts(job_dir)):
                yield job_dir

    def _run_of(self, job_dir: Path) -> Run | None:
        """The run that a job is about; None when it does not say so (yet)."""
        if job_dir.name not in self._runs:
            try:
                request = json.loads((job_dir / REQUEST).read_bytes())
                self._runs[job_dir.name] = (request["proposal"], request["run"])
            except (OSError, ValueError, KeyError, TypeError):
                return None
        return self._runs[job_dir.name]


def _results(attempt_dir: Path) -> Iterator[tuple[str, Pending]]:
    made_by = claim.read(attempt_dir)
    unsafe = made_by is not None and made_by.booted_since()
    for entry in JournalReader(attempt_dir).read():
        result = _result(entry, attempt_dir)
        if result is not None and not (unsafe and result.fragment is not None):
            yield entry.fields["variable"], result


def _result(entry: Entry, attempt_dir: Path) -> Pending | None:
    fields = entry.fields
    if entry.kind == "failed":
        return Pending(entry.time, error=(fields["error"]["type"], fields["error"]["message"]))
    if entry.kind == "died" and fields["variable"] is not None:
        return Pending(entry.time, error=died_error(entry))
    if entry.kind != "finished" or fields["summary"] is None:
        return None
    if fields["fragment"] is None:
        return Pending(entry.time, data=fields["data"])
    fragment = fragment_path(attempt_dir, fields["fragment"])
    return None if fragment is None else Pending(entry.time, fragment=fragment)
