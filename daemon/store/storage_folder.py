"""A StorageBackend over SQLite and HDF5: a database folder as the daemon keeps it.

What it writes are the table and the run files that everything else reads too; reports, which have
no place in them, are JSON files beside them.
"""

import json
import shutil
import socket
import stat
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ctxlib import files, summaries
from ctxlib.job_folder import FRAGMENTS
from ctxlib.recorder import save_result
from ctxlib.runfile import RunFile
from ctxlib.summary import Summary
from ctxlib.table_file import TableFile
from ctxlib.whole_file import remove_leftovers, write_whole
from daemon.settings import Settings
from daemon.store.rows import COMMENT, CellValue, Run
from daemon.store.storage import (
    Report,
    RunMetadata,
    StorageBackend,
    StorageNotFoundError,
    StoredResult,
    check_name,
    no_report,
    not_found,
    report_text,
)
from daemon.store.storage_writer import FolderWriter
from daemon.store.table import RunsTable

REPORTS = "reports"
"""The folder of the reports, one JSON file for each run that has one."""

_WORK = ".storage"


class FolderStorage(StorageBackend):
    """The storage of one database folder, which other processes may use at the same time.

    Each write holds the folder's lock for its moment, so that none is lost. A folder that a daemon
    serves is written by that alone: saving raises StorageBusyError then, while loading goes on.
    Results that jobs under way have found are there once they are in the run file.
    """

    def __init__(
        self,
        folder: Path,
        *,
        proposal: int | None = None,
        provenance: str = "storage",
        wait: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the database in `folder`; `proposal` makes folder and database if there is none.

        The table says `provenance` of what is saved here. Others are waited for at most `wait`
        seconds. `clock` gives the time. Raises StorageNotFoundError, and SchemaError for a
        database that cannot be used.
        """
        self.folder = folder
        self._provenance = provenance
        self._clock = clock
        path = folder / "runs.sqlite"
        if proposal is None and not path.exists():
            raise StorageNotFoundError(f"no database in {folder}: give `proposal` to make one")
        made = {each: mode for each, mode in ((folder, 0o777), (path, 0o666)) if not each.exists()}
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = FolderWriter(folder, wait)
        self._table = RunsTable(path, proposal, clock=clock)
        try:
            if proposal is not None:
                self._writer.write(self._table.open)
            for each, mode in made.items():
                each.chmod(mode & ~Settings().umask)
            self._file = TableFile(path)
        except BaseException:
            self.close()
            raise

    def save_run_metadata(self, run: Run, metadata: RunMetadata) -> None:
        """See StorageBackend."""
        added_at = self._clock() if metadata.added_at is None else metadata.added_at
        start_time = metadata.start_time

        async def save() -> None:
            self._combine(run, [], start_time)
            await self._table.ensure_run(*run, start_time, added_at)
            if start_time is not None:
                await self._table.set_start_time(*run, start_time)
            if metadata.comment is not None:
                await self._table.set_value(*run, COMMENT, metadata.comment)

        self._writer.write(save)

    def load_run_metadata(self, run: Run) -> RunMetadata:
        """See StorageBackend."""
        times = self._known(run)
        comment = self._file.cells(*run).get(COMMENT)
        return RunMetadata(*times, None if comment is None else comment.value)

    def save_result(self, run: Run, result: StoredResult) -> None:
        """See StorageBackend."""
        self._check_column(result.name)
        prepared = summaries.prepare(result.data, log=lambda _: None)
        name, error = result.name, result.error
        work = self.folder / _WORK

        def published() -> files.Result:
            if error is not None:
                return files.Result(name, error=error)
            origin = self._origin()
            saved: dict[str, Any] = save_result(work, name, prepared, origin)
            fragment = saved["fragment"]
            return files.Result(
                name,
                summary=prepared.summary,
                data=saved["data"],
                fragment=None if fragment is None else work / FRAGMENTS / fragment,
                objtype=prepared.objtype,
                origin=origin,
            )

        async def save() -> None:
            shutil.rmtree(work, ignore_errors=True)  # of a process that was killed
            self._make_shared(work)
            try:
                self._combine(run, [published()], None)
            finally:
                shutil.rmtree(work, ignore_errors=True)
            summary = prepared.summary if error is None else None
            cell = CellValue(name, summary, error, self._provenance)
            await self._table.set_results(*run, [cell])

        self._write(run, save)

    def load_results(self, run: Run) -> dict[str, StoredResult]:
        """See StorageBackend."""
        self._known(run)
        found = {}
        with self._run_file(run) as file:
            for name in file.names() if file is not None else ():
                assert file is not None
                error = file.error(name)
                if error is not None:
                    found[name] = StoredResult(name, error=error)
                    continue
                try:
                    found[name] = StoredResult(name, file.read(name))
                except KeyError:
                    continue  # of a Cell that only had a preview, or of a summary alone
        return found

    def save_summary(self, run: Run, name: str, summary: Summary) -> None:
        """See StorageBackend."""
        self._check_column(name)
        path = self._run_path(run)

        async def save() -> None:
            with self._run_file(run) as file:
                has_data = file is not None and name in file.data_names()
            # What is there of the variable is taken over from the file that is replaced.
            result = files.Result(name, summary=summary, fragment=path if has_data else None)
            self._combine(run, [result], None)
            cell = CellValue(name, summary, provenance=self._provenance)
            await self._table.set_results(*run, [cell])

        self._write(run, save)

    def load_summaries(self, run: Run) -> dict[str, Summary]:
        """See StorageBackend."""
        self._known(run)
        with self._run_file(run) as file:
            found = {} if file is None else {name: file.summary(name) for name in file.names()}
        return {name: summary for name, summary in found.items() if summary is not None}

    def save_report(self, run: Run, report: Mapping[str, Any]) -> None:
        """See StorageBackend."""
        text = report_text(report)
        path = self._report_path(run)

        async def save() -> None:
            self._make_shared(path.parent)
            remove_leftovers(path)
            write_whole(path, text.encode(), durable=True)

        self._write(run, save)

    def load_report(self, run: Run) -> Report:
        """See StorageBackend."""
        self._known(run)
        try:
            report: Report = json.loads(self._report_path(run).read_text())
        except FileNotFoundError:
            raise no_report(run) from None
        return report

    def list_runs(self) -> list[Run]:
        """See StorageBackend."""
        self._writer.check_open()
        return sorted(self._file.run_times())

    def run_exists(self, run: Run) -> bool:
        """See StorageBackend."""
        self._writer.check_open()
        return run in self._file.run_times(run)

    def delete_run(self, run: Run) -> None:
        """See StorageBackend. The log of its processing stays."""
        path = self._run_path(run)

        async def delete() -> None:
            # Killed in between it has a row with an empty file, or a file that is of no row.
            self._report_path(run).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            self._combine(run, [], None)
            await self._table.delete_run(*run)
            path.unlink(missing_ok=True)

        self._write(run, delete)

    def close(self) -> None:
        """Finish what is being written and close the table."""
        self._writer.close(self._table.close)

    def _write(self, run: Run, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` with the folder's lock on a run that is there."""

        async def checked() -> None:
            self._known(run)
            await work()

        self._writer.write(checked)

    def _known(self, run: Run) -> tuple[float | None, float | None]:
        """When a run began and was added."""
        self._writer.check_open()
        found = self._file.run_times(run).get(run)
        if found is None:
            raise not_found(run)
        return found

    def _check_column(self, name: str) -> None:
        self._writer.check_open()
        check_name(name)
        column = self._file.columns().get(name)
        if column is not None and column.type is not None:
            raise ValueError(f"{name!r} is a variable that people fill in; use another name")

    def _origin(self) -> dict[str, object]:
        return {
            "provenance": self._provenance,
            "host": socket.gethostname(),
            "time": self._clock(),
        }

    def _combine(self, run: Run, results: list[files.Result], start_time: float | None) -> None:
        path = self._run_path(run)
        if results or start_time is not None or not path.exists():
            self._make_shared(path.parent)
            files.combine(path, results, start_time=start_time)

    def _make_shared(self, folder: Path) -> None:
        """Make a folder for all who may use the database, whatever this program's umask is."""
        if not folder.exists():
            folder.mkdir()
            folder.chmod(stat.S_IMODE(self.folder.stat().st_mode))

    def _run_path(self, run: Run) -> Path:
        return self.folder / "extracted_data" / f"p{run[0]}_r{run[1]}.h5"

    def _report_path(self, run: Run) -> Path:
        return self.folder / REPORTS / f"p{run[0]}_r{run[1]}.json"

    @contextmanager
    def _run_file(self, run: Run) -> Iterator[RunFile | None]:
        """The run file, opened; None when there is none."""
        try:
            file = RunFile(self._run_path(run))
        except FileNotFoundError:
            yield None
            return
        with file:
            yield file
