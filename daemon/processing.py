"""What jobs mean to a folder: the request that a runner gets, and the row and file of its run."""

import asyncio
import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from logging import Logger
from pathlib import Path
from typing import Any

from ctxlib.journal import Entry
from ctxlib.memory import parse_memory
from daemon import simulations
from daemon.backends.named import HERE, Backends, check_variables, described
from daemon.events import MigrationEvent
from daemon.jobs.folder import log_of
from daemon.jobs.job import SEQUENTIAL, Job
from daemon.locate import ProposalFolder
from daemon.sandbox import Interpreter
from daemon.settings import Settings
from daemon.store.combiner import Combiner
from daemon.store.ingest import Ingest
from daemon.store.origins import Origins
from daemon.store.outcomes import journals
from daemon.store.pictures import Pictures
from daemon.store.rows import PROCESSING_ERROR
from daemon.store.table import RunsTable

Update = dict[str, Any]

LONGEST_SECONDS = 400 * 86400
"""For jobs whose end is somebody else's business: longer than any of them is let to run."""


class Processing:
    """Writes requests for jobs, and what comes of them into the run table and the run files."""

    def __init__(
        self,
        folder: Path,
        table: RunsTable,
        origins: Origins,
        *,
        settings: Callable[[], Settings],
        backends: Backends,
        log: Logger,
    ) -> None:
        """Write for the database in `folder`; `settings` is asked for each job.

        `backends` are those that jobs may be for.
        """
        self._folder = folder
        self._table = table
        self._origins = origins
        self._settings = settings
        self._log = log
        self._ingest = Ingest(table)
        self._combiner = Combiner()
        self._pictures = Pictures(table)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._generations: dict[str, int] = {}
        self._making = asyncio.Lock()
        self._backends = backends
        self.proposal = ProposalFolder(
            folder, lambda: (settings().proposal, settings().proposal_path)
        )

    def interpreter(self) -> Interpreter:
        """The Python that runs the context file, in its sandbox."""
        settings = self._settings()
        python = settings.context_python or sys.executable
        return Interpreter.of(python, settings.sandbox_args, self._folder)

    async def close(self) -> None:
        """End the helping processes, after what they are at."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._combiner.close()
        await self._pictures.close()

    def request(self, job: Job) -> dict[str, Any]:
        """The content of job.json: all that a runner, here or elsewhere, has to know.

        This reads files, so call it in a thread. Raises ConfigurationError for a backend that there
        is not.
        """
        settings, root = self._settings(), self.proposal.path(job.proposal)
        context = self._folder / "context.py"
        return {
            "id": job.id,
            "proposal": job.proposal,
            "run": job.run,
            "data": job.data,
            "variables": None if job.variables is None else list(job.variables),
            "match": list(job.match),
            "params": {**settings.params, **job.params},
            "part": job.part,
            "backends": self._backends.for_variables(),
            "inputs": list(job.inputs),
            "database": str(self._folder),
            "context": str(context),
            "context_sha256": _sha256(context),
            "proposal_path": None if root is None else str(root),
            "run_pattern": settings.run_pattern,
            "source": settings.source,
            "mock": job.mock,
            "live": job.live,
            "max_attempts": settings.max_attempts,
            "umask": settings.umask,
            **self._where(job),
        }

    def _where(self, job: Job) -> dict[str, Any]:
        """The backend of a job and its configuration, without secrets; limits, command and log."""
        backend = job.backend
        settings, config = self._settings(), self._backends.configuration(backend)
        if job.command is None and backend != SEQUENTIAL:
            check_variables(backend, config)
        command = simulations.described(job, self._folder)
        asked = command.pop("timeout", None)
        here = isinstance(config, HERE)
        timeout: float = config.timeout
        if config.HAS_TIME_LIMIT and "timeout" not in config.model_fields_set:
            timeout = LONGEST_SECONDS
        elif not self._backends.is_described(backend):
            timeout = settings.job_timeout
        return {
            "backend": backend,
            "configuration": described(config),
            # Elsewhere it is the manager that sees to them.
            "cpus": settings.noncluster_cpus if here else None,
            "memory": parse_memory(settings.noncluster_mem) if here else None,
            "timeout": asked or timeout,
            "working_dir": config.working_dir,
            **command,
            "log": str(log_of(self._folder, job)),
        }

    async def arrived(self, events: Sequence[MigrationEvent]) -> None:
        """Make the rows of runs when data of them arrive."""
        runs = {(event.proposal, event.run): event.time for event in reversed(events)}
        await self._make_rows([(*run, now) for run, now in runs.items()])

    async def apply(self, request: Mapping[str, Any], entries: Sequence[Entry]) -> Sequence[Update]:
        """Bring journal lines into the table; pictures that need a browser follow when drawn."""
        if request.get("command") is not None:
            return []  # it has no run
        known = await self._generation_of(request, entries)
        if any(entry.kind == "claimed" for entry in entries):
            await self._make_row(request["proposal"], request["run"], entries[0].time)
        updates = await self._ingest.apply(request, entries)
        while known != (known := await self._table.generation()):
            await self._apply_all(request)
        self._generations[request["id"]] = known
        if any(entry.kind == "ended" for entry in entries):
            del self._generations[request["id"]]
        await self._origins.keep(request, entries)
        if any(update.get("placeholder") for update in updates):
            self._begin(f"pictures of {request['id']}", self._pictures.complete(request))
        return updates

    async def combine(self, job: Job) -> Sequence[str]:
        """Bring the results of an ended job into the run file, with all its pictures.

        Returns the variables whose results did not survive. Raises what `Combiner.combine` does.
        """
        if job.command is not None:
            return []
        await self._pictures.complete({"id": job.id, "proposal": job.proposal, "run": job.run})
        began = await self._table.start_time(job.proposal, job.run)
        target = self._run_file(job.proposal, job.run)
        expected = await self._origins.made_by(job.proposal, job.run, job.id)
        combined = await self._combiner.combine(
            self._folder / "jobs" / job.id, target, began, expected
        )
        if combined.moved is not None:
            self._log.error("%s cannot be read; kept as %s and made anew", target, combined.moved)
        return combined.lost

    async def explain(self, proposal: int, run: int, text: str) -> None:
        """Put into the run's row why nothing comes of it."""
        await self._table.set_value(proposal, run, PROCESSING_ERROR, text)

    async def _generation_of(self, request: Mapping[str, Any], entries: Sequence[Entry]) -> int:
        """The file that has the lines of a job so far: -1 says that it is not the present one."""
        run = (request["proposal"], request["run"])
        known = self._generations.get(request["id"])
        if known is not None:
            return known
        begins = any(entry.kind == "claimed" for entry in entries)
        there = begins or await self._table.has_run(*run)
        return await self._table.generation() if there else -1

    async def _apply_all(self, request: Mapping[str, Any]) -> None:
        """Bring all that a job has said so far into a table that was made anew meanwhile."""
        job_dir = self._folder / "jobs" / request["id"]
        for _, entries in await asyncio.to_thread(journals, job_dir):
            if entries:
                await self._make_row(request["proposal"], request["run"], entries[0].time)
                await self._ingest.apply(request, entries)

    async def _make_row(self, proposal: int, run: int, now: float) -> None:
        await self._make_rows([(proposal, run, now)])

    async def _make_rows(self, runs: Sequence[tuple[int, int, float]]) -> None:
        """Make the rows of runs if there are none, with a time, as readers leave out rows without.

        Readers want a run file for each row too; it follows soon, as nothing waits for it.
        """

        def look() -> list[tuple[int, int, float, float]]:
            return [(p, run, self._oldest_file(p, run) or now, now) for p, run, now in runs]

        found = await asyncio.to_thread(look)
        made = await self._table.ensure_runs(found)
        for (proposal, run, began, _), is_new in zip(found, made, strict=True):
            if is_new:
                work = self._make_file(self._run_file(proposal, run), began)
                self._begin(f"file of run {run}", work)

    async def _make_file(self, target: Path, began: float) -> None:
        # One at a time, so that results need not wait for all of those.
        async with self._making:
            await self._combiner.publish_empty(target, began)

    def _oldest_file(self, proposal: int, run: int) -> float | None:
        root, pattern = self.proposal.path(proposal), self._settings().runs
        for data in pattern.kinds:
            try:
                files = [] if root is None else list((root / pattern.folder(data, run)).iterdir())
                return min(file.stat().st_mtime for file in files)
            except (OSError, ValueError):
                continue  # not there, not readable or empty: something else has to do
        return None

    def _run_file(self, proposal: int, run: int) -> Path:
        return self._folder / "extracted_data" / f"p{proposal}_r{run}.h5"

    def _begin(self, name: str, work: Any) -> None:
        """Do something beside the jobs; trouble with it only goes to the log."""

        def ended(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and task.exception() is not None:
                self._log.error("%s: %s", name, task.exception())

        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(ended)


def _sha256(path: Path) -> str | None:
    """The digest of a file's content; None when it cannot be read, which loading it explains."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
