"""A StorageBackend in memory, for tests and for what need not be kept."""

import io
import itertools
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import h5py

from ctxlib import summaries
from ctxlib.layout import HIDDEN, read_object, read_summary, write_data, write_summary
from ctxlib.summary import Summary
from daemon.store.rows import Run
from daemon.store.storage import (
    Report,
    RunMetadata,
    StorageBackend,
    StorageClosedError,
    StoredResult,
    check_name,
    no_report,
    not_found,
    report_text,
)


@dataclass
class _Run:
    metadata: RunMetadata
    data: dict[str, bytes] = field(default_factory=dict)
    errors: dict[str, tuple[str, str]] = field(default_factory=dict)
    summaries: dict[str, bytes] = field(default_factory=dict)
    report: str | None = None


class MemoryStorage(StorageBackend):
    """Keeps everything for as long as it is open.

    Values are held in the form that they have in a run file, so that they come back as they do
    from one, and nothing that is done to them afterwards changes them.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives the time, in seconds since the epoch, at which a run is added."""
        self._clock = clock
        self._lock = threading.Lock()
        self._runs: dict[Run, _Run] | None = {}

    def save_run_metadata(self, run: Run, metadata: RunMetadata) -> None:
        """See StorageBackend."""
        with self._lock:
            runs = self._open_runs()
            if run not in runs:
                added_at = self._clock() if metadata.added_at is None else metadata.added_at
                runs[run] = _Run(RunMetadata(added_at=added_at))
            known = runs[run].metadata
            runs[run].metadata = RunMetadata(
                known.start_time if metadata.start_time is None else metadata.start_time,
                known.added_at,
                known.comment if metadata.comment is None else metadata.comment,
            )

    def load_run_metadata(self, run: Run) -> RunMetadata:
        """See StorageBackend."""
        with self._lock:
            return replace(self._run(run).metadata)

    def save_result(self, run: Run, result: StoredResult) -> None:
        """See StorageBackend."""
        check_name(result.name)
        prepared = summaries.prepare(result.data, log=lambda _: None)
        name = result.name
        with self._lock:
            stored = self._run(run)
            for part in (stored.data, stored.errors, stored.summaries):
                part.pop(name, None)
            if result.error is not None:
                stored.errors[name] = result.error
                return
            if prepared.data is not None:
                stored.data[name] = _as_file(
                    lambda file: write_data(
                        file, name, prepared.data, prepared.objtype, itertools.count()
                    )
                )
            if prepared.summary.value is not None:
                stored.summaries[name] = _summary_file(name, prepared.summary)

    def load_results(self, run: Run) -> dict[str, StoredResult]:
        """See StorageBackend."""
        with self._lock:
            stored = self._run(run)
            data, errors = dict(stored.data), dict(stored.errors)
        results = {name: StoredResult(name, _read_data(name, file)) for name, file in data.items()}
        results |= {name: StoredResult(name, error=error) for name, error in errors.items()}
        return dict(sorted(results.items()))

    def save_summary(self, run: Run, name: str, summary: Summary) -> None:
        """See StorageBackend."""
        check_name(name)
        with self._lock:
            stored = self._run(run)
            stored.errors.pop(name, None)
            stored.summaries.pop(name, None)
            if summary.value is not None:
                stored.summaries[name] = _summary_file(name, summary)

    def load_summaries(self, run: Run) -> dict[str, Summary]:
        """See StorageBackend."""
        with self._lock:
            found = dict(sorted(self._run(run).summaries.items()))
        return {name: _read_summary(name, file) for name, file in found.items()}

    def save_report(self, run: Run, report: Mapping[str, Any]) -> None:
        """See StorageBackend."""
        text = report_text(report)
        with self._lock:
            self._run(run).report = text

    def load_report(self, run: Run) -> Report:
        """See StorageBackend."""
        with self._lock:
            text = self._run(run).report
        if text is None:
            raise no_report(run)
        report: Report = json.loads(text)
        return report

    def list_runs(self) -> list[Run]:
        """See StorageBackend."""
        with self._lock:
            return sorted(self._open_runs())

    def run_exists(self, run: Run) -> bool:
        """See StorageBackend."""
        with self._lock:
            return run in self._open_runs()

    def delete_run(self, run: Run) -> None:
        """See StorageBackend."""
        with self._lock:
            self._run(run)
            del self._open_runs()[run]

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._runs = None

    def _open_runs(self) -> dict[Run, _Run]:
        if self._runs is None:
            raise StorageClosedError("this storage in memory is closed")
        return self._runs

    def _run(self, run: Run) -> _Run:
        found = self._open_runs().get(run)
        if found is None:
            raise not_found(run)
        return found


def _as_file(write: Callable[[h5py.File], object]) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=("v108", "v110")) as file:
        for part in HIDDEN:
            file.create_group(part)
        write(file)
    return buffer.getvalue()


def _summary_file(name: str, summary: Summary) -> bytes:
    return _as_file(lambda file: write_summary(file, name, summary))


def _read_data(name: str, content: bytes) -> Any:
    with h5py.File(io.BytesIO(content), "r") as file:
        return read_object(file[name])


def _read_summary(name: str, content: bytes) -> Summary:
    with h5py.File(io.BytesIO(content), "r") as file:
        return read_summary(file[f".reduced/{name}"])
