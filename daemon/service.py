"""The only place where the parts are put together: one folder, served by a daemon or a command."""

import asyncio
import hashlib
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from ctxlib.journal import Entry
from daemon.backends.local import LocalManager, revoke
from daemon.context_file import ContextFile
from daemon.control import ControlServer, ServiceError
from daemon.database import Database
from daemon.events import Data, MigrationEvent
from daemon.events.filesystem import existing_runs
from daemon.events.filesystem_source import FilesystemSource
from daemon.events.inbox import Inbox
from daemon.filesystem import is_network
from daemon.jobs.job import Job, Selection, Work
from daemon.jobs.queue import Queue
from daemon.jobs.scheduler import Scheduler
from daemon.jobs.tables import MIGRATIONS
from daemon.library import install
from daemon.locate import proposal_path
from daemon.lock import Holder
from daemon.operations import Operations
from daemon.settings import Settings, parse_memory
from daemon.store.combiner import Combiner
from daemon.store.ingest import Ingest
from daemon.store.pictures import Pictures
from daemon.store.rows import PROCESSING_ERROR
from daemon.store.table import RunsTable
from daemon.updates import Hub

Item = dict[str, Any]

LOG = logging.getLogger("runtable")
FOR_EVER = 10.0**8
"""More seconds than any job may take."""
ENDPOINT_MODES: Mapping[str, int] = {"owner": 0o600, "group": 0o640, "all": 0o640}
"""Permissions of control.json: whoever reads it may do everything, so never for all."""


class Service:
    """The parts of one folder put together; the folder's lock is the caller's to hold."""

    def __init__(self, folder: Path, *, daemon: Holder | None = None) -> None:
        """Serve `folder`, as the daemon that `daemon` describes or for a single command."""
        self.folder = folder
        self.identity = None if daemon is None else asdict(daemon)
        self.settings = Settings()
        self.now = time.time
        self.hub = Hub()
        self.operations = Operations(self)
        self._handover = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._source: FilesystemSource | None = None
        self._drawing: dict[str, asyncio.Task[list[str]]] = {}
        self._at_work = False

    async def open(self, proposal: int | None = None) -> None:
        """Open the databases; with `proposal`, a missing runs.sqlite is made for it.

        Raises ServiceError or SchemaError, with nothing changed, when that cannot be.
        """
        path = self.folder / "runs.sqlite"
        if proposal is None and not path.exists():
            raise ServiceError(
                f"no database in {self.folder}: `runtable proposal N` makes a blank one there"
            )
        os.umask(self.settings.umask)
        self.table = RunsTable(path, proposal)
        await self.table.open()
        self.settings = await self.table.settings()
        os.umask(self.settings.umask)
        self.library = install(self.folder)
        self.database = Database(
            self.folder / "daemon.sqlite",
            migrations=MIGRATIONS,
            wal=not is_network(self.folder),
        )
        await self.database.open()
        self.inbox = Inbox(self.database)
        self.queue = Queue(self.database, log=LOG)
        self.context = ContextFile(
            self.folder / "context.py",
            library=lambda: self.library,
            python=self._python,
            register=self.table.register,
            log=LOG,
        )

    async def start_work(self) -> None:
        """Begin to run jobs, and to answer other programs over the control socket."""
        self._combiner = Combiner()
        self._ingest = Ingest(self.table)
        self._pictures = Pictures(self.table)
        self._manager = LocalManager(
            self.folder,
            self.library,
            python=self._python,
            mode=lambda: self.settings.process_start,
            idle_seconds=self.settings.idle_seconds,
            max_servers=self.settings.max_servers,
            on_wake=lambda job: self.scheduler.wake(job),
            on_end=lambda job, _attempt: self.scheduler.wake(job),
            log=LOG.warning,
        )
        self.scheduler = Scheduler(
            self.queue,
            self.inbox,
            self._manager,
            folder=self.folder,
            settings=lambda: self.settings,
            request=self._request,
            apply=self._apply,
            combine=self._combine,
            arrived=self._arrived,
            explain=self._explain,
            publish=self.hub.publish,
            revoke=revoke,
            free_memory=lambda: psutil.virtual_memory().available,
            log=LOG,
        )
        await self.scheduler.start()
        self._control = ControlServer(self.folder, self.operations.handlers, log=LOG)
        await self._control.start(ENDPOINT_MODES[self.settings.share_with])
        self._at_work = True

    async def start_sources(self) -> None:
        """Begin to notice what happens: runs that arrive, and edits of the context file."""
        self._spawn(self.context.watch())
        root, proposal = self.proposal_path, self.settings.proposal
        if root is None or proposal is None:
            LOG.warning(
                "proposal %s has no folder that can be watched: set it with "
                "`runtable db-config proposal_path FOLDER` and restart",
                proposal,
            )
            return
        self._source = FilesystemSource(
            root,
            proposal,
            settings=lambda: self.settings,
            store=self.inbox.store,
            last_keys=self.inbox.last_keys,
            log=LOG,
        )
        self._spawn(self._source.run())

    async def until(self, stop: asyncio.Event) -> None:
        """Serve until `stop`; what ends one of the parts ends the service with its exception."""
        stopping = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait(
                [stopping, *self._tasks], return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            stopping.cancel()
        for task in done - {stopping}:
            task.result()

    async def close(self, *, finish: bool = False) -> None:
        """End everything; begun jobs get `stop_grace` seconds, or with `finish` all they need."""
        await _cancel(self._tasks)
        if self._at_work:
            await self._control.close()
            await self.scheduler.stop(FOR_EVER if finish else None)
            await self._manager.close()
            await self._combiner.close()
            await _cancel(list(self._drawing.values()))
            await self._pictures.close()
        await self.database.close()
        await self.table.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    # What is asked of it

    @property
    def proposal_path(self) -> Path | None:
        """The folder with raw/ and proc/; None when it is not known."""
        settings = self.settings
        return proposal_path(self.folder, settings.proposal, settings.proposal_path)

    async def runs_on_disk(self) -> dict[int, Selection]:
        """The runs that have data, and of which kind."""
        root = self.proposal_path
        if root is None:
            return {}
        kinds: dict[int, set[Data]] = {}
        for data, run, _ in await asyncio.to_thread(existing_runs, root):
            kinds.setdefault(run, set()).add(data)
        return {run: "all" if len(found) == 2 else found.pop() for run, found in kinds.items()}

    async def submit(self, works: Sequence[Work]) -> list[Job]:
        """Queue `works`; a command without a daemon begins to work on them by this."""
        if not self._at_work:
            await self.start_work()
        return await self.scheduler.submit(works)

    def running(self) -> list[dict[str, Any]]:
        """The jobs at work, each with how far it is."""
        return self.scheduler.running() if self._at_work else []

    def waiting(self) -> str | None:
        """Why queued jobs do not start, if something is in the way of all of them."""
        return self.scheduler.waiting if self._at_work else None

    def sources(self) -> list[str]:
        """Where events come from, in words."""
        if not self._at_work:
            return []
        here = [] if self._source is None else [self._source.describe()]
        return [*here, "notify and ZeroMQ messages (control.json)"]

    async def settings_changed(self) -> None:
        """Take over settings that were changed."""
        self.settings = await self.table.settings()
        os.umask(self.settings.umask)
        if self._at_work:
            self.scheduler.reconsider()

    # Handing over to a daemon

    @property
    def handed_over(self) -> bool:
        """Whether a daemon waits for this folder."""
        return self._handover.is_set()

    def hand_over(self) -> bool:
        """A daemon asks for the folder; False when this is a daemon itself."""
        if self.identity is None:
            self._handover.set()
        return self.identity is None

    async def unless_handed_over(self, items: AsyncIterator[Item]) -> Item | None:
        """The next of `items`; None at their end, or when the folder is to be handed over."""
        following = asyncio.ensure_future(anext(items, None))
        leaving = asyncio.create_task(self._handover.wait())
        await asyncio.wait([following, leaving], return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if following.done():
            return following.result()
        following.cancel()
        return None

    # What the scheduler needs

    def _python(self) -> str:
        return self.settings.context_python or sys.executable

    def _run_file(self, proposal: int, run: int) -> Path:
        return self.folder / "extracted_data" / f"p{proposal}_r{run}.h5"

    def _request(self, job: Job) -> dict[str, Any]:
        """The content of job.json: all that a runner, here or elsewhere, has to know."""
        settings, root = self.settings, self.proposal_path
        context = self.folder / "context.py"
        return {
            "id": job.id,
            "proposal": job.proposal,
            "run": job.run,
            "data": job.data,
            "variables": None if job.variables is None else list(job.variables),
            "match": list(job.match),
            "cluster": job.cluster,
            "inputs": list(job.inputs),
            "database": str(self.folder),
            "context": str(context),
            "context_sha256": _sha256(context),
            "proposal_path": None if root is None else str(root),
            "mock": job.mock,
            "cpus": settings.noncluster_cpus,
            "memory": parse_memory(settings.noncluster_mem),
            "timeout": settings.job_timeout,
            "log": str(self.folder / "process_logs" / f"r{job.run}-p{job.proposal}.out"),
        }

    async def _arrived(self, event: MigrationEvent) -> None:
        """Make the run's row, with a run file for readers that want one for each row."""
        self.settings = await self.table.settings()
        began = await asyncio.to_thread(self._oldest_file, event)
        await self.table.ensure_run(event.proposal, event.run, began or event.time, event.time)
        target = self._run_file(event.proposal, event.run)
        await self._combiner.publish_empty(target, began or event.time)
        self.hub.publish({"kind": "run", "proposal": event.proposal, "run": event.run})

    def _oldest_file(self, event: MigrationEvent) -> float | None:
        root = self.proposal_path
        folder = None if root is None else root / event.data / f"r{event.run:04d}"
        try:
            return min(file.stat().st_mtime for file in folder.iterdir()) if folder else None
        except (OSError, ValueError):
            return None  # not there, not readable, or empty: the event's own time has to do

    async def _apply(self, request: Mapping[str, Any], entries: Sequence[Entry]) -> list[Item]:
        """Bring journal lines into the table; pictures that need a browser follow when drawn."""
        updates = await self._ingest.apply(request, entries)
        job = str(request["id"])
        if any(update.get("placeholder") for update in updates) and job not in self._drawing:
            self._drawing[job] = asyncio.create_task(self._pictures.complete(request))
        return updates

    async def _combine(self, job: Job) -> Sequence[str]:
        drawing = self._drawing.pop(job.id, None)
        if drawing is not None:
            await drawing
        began = await self.table.start_time(job.proposal, job.run)
        target = self._run_file(job.proposal, job.run)
        combined = await self._combiner.combine(self.folder / "jobs" / job.id, target, began)
        if combined.moved is not None:
            LOG.error("%s cannot be read; kept as %s and made anew", target, combined.moved)
        return combined.lost

    async def _explain(self, proposal: int, run: int, text: str) -> None:
        await self.table.set_value(proposal, run, PROCESSING_ERROR, text)


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _sha256(path: Path) -> str | None:
    """The digest of a file's content; None when it is not there."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None
