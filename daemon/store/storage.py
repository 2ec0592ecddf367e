"""StorageBackend: an interface behind which runs and what became of them are kept."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from ctxlib.column_names import trouble_with
from ctxlib.summary import Summary
from daemon.store.rows import Run

Report = dict[str, Any]


class StorageError(Exception):
    """Something could not be kept or found; the text says what, and what would help."""


class RunNotFoundError(StorageError, FileNotFoundError):
    """There is no such run: `save_run_metadata` makes one."""


class ReportNotFoundError(StorageError, FileNotFoundError):
    """The run has no report."""


class StorageNotFoundError(StorageError, FileNotFoundError):
    """There is no storage at that place."""


class StorageBusyError(StorageError):
    """Somebody else writes there, and does not end."""


class StorageClosedError(StorageError):
    """The storage was closed before."""


@dataclass(frozen=True)
class RunMetadata:
    """What is known of a run itself; times in seconds since the epoch, UTC.

    `added_at` is when the storage first heard of it. A run without `start_time` was announced but
    not taken yet.
    """

    start_time: float | None = None
    added_at: float | None = None
    comment: str | None = None


@dataclass(frozen=True)
class StoredResult:
    """What a variable came to: data of any kind that a variable may return, or an error.

    `error` is the name of the exception's class (`Skip` among them), and its text. With neither
    the variable gave nothing.
    """

    name: str
    data: Any = None
    error: tuple[str, str] | None = None


class StorageBackend(ABC):
    """Keeps runs, each named by proposal and run number, with results, summaries and a report.

    Methods may be called from several threads. What a method has written is kept when it returns,
    however the process ends after that. Loading anything of a run that is not there raises
    RunNotFoundError, and so does saving, except of metadata. After `close` all raise
    StorageClosedError. A context manager, which closes.
    """

    @abstractmethod
    def save_run_metadata(self, run: Run, metadata: RunMetadata) -> None:
        """Make a run known, or tell more of one; what is None stays as it was.

        `added_at` counts when the run is new, and is the present without one.
        """

    @abstractmethod
    def load_run_metadata(self, run: Run) -> RunMetadata:
        """What is known of a run."""

    @abstractmethod
    def save_result(self, run: Run, result: StoredResult) -> None:
        """Add the result of one variable with its summary, in place of what it had.

        `data` may be a Cell. Raises UnsavableError, with the type named, for what no variable may
        return, and ValueError for a name that no variable can have.
        """

    @abstractmethod
    def load_results(self, run: Run) -> dict[str, StoredResult]:
        """The results of a run by the names of their variables, without those that gave nothing.

        Data are as RunTable reads them: numbers are NumPy's, images arrays of colours.
        """

    @abstractmethod
    def save_summary(self, run: Run, name: str, summary: Summary) -> None:
        """Say what the table shows of a variable, in place of the summary or error it had.

        One without a value takes the summary away.
        """

    @abstractmethod
    def load_summaries(self, run: Run) -> dict[str, Summary]:
        """What the table shows of a run's variables, by their names."""

    @abstractmethod
    def save_report(self, run: Run, report: Mapping[str, Any]) -> None:
        """Keep a report about a run, a JSON object, in place of the one before.

        Raises TypeError or ValueError for what is no JSON.
        """

    @abstractmethod
    def load_report(self, run: Run) -> Report:
        """The report about a run; raises ReportNotFoundError when it has none."""

    @abstractmethod
    def list_runs(self) -> list[Run]:
        """All runs, by proposal and number."""

    @abstractmethod
    def run_exists(self, run: Run) -> bool:
        """Tell whether the run is known."""

    @abstractmethod
    def delete_run(self, run: Run) -> None:
        """Forget a run and all that belongs to it."""

    def close(self) -> None:  # noqa: B027 - not every storage has something to close
        """Let go of files and connections; without effect the second time."""

    def __enter__(self) -> Self:
        """Give the storage itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it; what was raised goes on."""
        self.close()


def not_found(run: Run) -> RunNotFoundError:
    """The error for a run that is not there."""
    return RunNotFoundError(
        f"there is no run {run[1]} of proposal {run[0]}; save_run_metadata makes it"
    )


def no_report(run: Run) -> ReportNotFoundError:
    """The error for a run without a report."""
    return ReportNotFoundError(f"run {run[1]} of proposal {run[0]} has no report; save_report")


def report_text(report: Mapping[str, Any]) -> str:
    """The text that a report is kept as; raises TypeError or ValueError for what is no JSON."""
    if not isinstance(report, Mapping):
        raise TypeError(f"a report is a JSON object, not {report!r}")
    text = json.dumps(dict(report), indent=1, allow_nan=False)
    if json.loads(text) != report:
        raise ValueError("the report has keys that are no texts, or tuples: JSON would change them")
    return text + "\n"


def check_name(name: str) -> None:
    """Raise ValueError for a name that no variable can have."""
    trouble = trouble_with(name)
    if trouble is not None:
        raise ValueError(trouble)
