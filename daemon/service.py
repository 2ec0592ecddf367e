"""The only place where the parts are put together: one folder, served by a daemon or a command."""

import asyncio
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from daemon.arrivals import Arrivals
from daemon.backends.agent_pool import AgentPool
from daemon.backends.context import ManagerContext
from daemon.backends.here import revoke
from daemon.backends.managers import Managers
from daemon.backends.named import Backends
from daemon.context_file import ContextFile
from daemon.control import ServiceError
from daemon.control_server import ControlServer
from daemon.database import Database
from daemon.events import Data, MigrationEvent
from daemon.events.filesystem import existing_runs
from daemon.events.inbox import Inbox
from daemon.filesystem import is_network
from daemon.handover import Handover
from daemon.jobs.housekeeping import Housekeeping
from daemon.jobs.job import SEQUENTIAL, Job, Selection, Work
from daemon.jobs.outside import Outside
from daemon.jobs.queue import Queue
from daemon.jobs.records import Records
from daemon.jobs.scheduler import Scheduler
from daemon.jobs.tables import MIGRATIONS
from daemon.library import HERE, install, restore
from daemon.lock import Holder
from daemon.operations import Operations
from daemon.person import person
from daemon.processing import Processing
from daemon.readonly import ReadOnlyDatabase
from daemon.settings import Settings
from daemon.store.origins import Origins
from daemon.store.table import RunsTable
from daemon.updates import Hub
from daemon.watching import Watching, cancel

LOG = logging.getLogger("runtable")
FOR_EVER = 10.0**8
"""More seconds than any job may take."""
ENDPOINT_MODES: Mapping[str, int] = {"owner": 0o600, "group": 0o640, "all": 0o640}
"""Permissions of control.json: whoever reads it may do everything, so never for all."""


class Service:
    """The parts of one folder put together; the folder's lock is the caller's to hold."""

    def __init__(
        self, folder: Path, *, daemon: Holder | None = None, read_only: str | None = None
    ) -> None:
        """Serve `folder`, as the daemon that `daemon` describes or for a single command.

        With `read_only`, which says why in words, it can only be looked at.
        """
        self.folder = folder
        self.read_only = read_only
        self.identity = None if daemon is None else asdict(daemon)
        self.settings = Settings()
        self.now = time.time
        self.hub = Hub()
        self.operations = Operations(self)
        self.handover = Handover(self._working)
        self._tasks: list[asyncio.Task[None]] = []
        self._at_work = False

    async def open(self, proposal: int | None = None) -> None:
        """Open the databases; with `proposal`, a missing runs.sqlite is made for it.

        Raises ServiceError or SchemaError, with nothing changed, when that cannot be.
        """
        await self._open_databases(proposal)
        self._put_together()

    async def _open_databases(self, proposal: int | None) -> None:
        path = self.folder / "runs.sqlite"
        if proposal is None and not path.exists():
            raise ServiceError(
                f"no database in {self.folder}: `runtable proposal N` makes a blank one there"
            )
        os.umask(self.settings.umask)
        kind = Database if self.read_only is None else ReadOnlyDatabase
        self.table = RunsTable(path, proposal, kind=kind)
        await self.table.open()
        self.settings = await self.table.settings()
        os.umask(self.settings.umask)
        self.library = install(self.folder) if self.read_only is None else HERE
        self.database = kind(
            self.folder / "daemon.sqlite",
            migrations=MIGRATIONS,
            wal=not is_network(self.folder),
            anew=False,
        )
        await self.database.open()

    def _put_together(self) -> None:
        def settings() -> Settings:
            return self.settings

        self.inbox = Inbox(self.database)
        self.queue = Queue(self.database, log=LOG, by=person())
        self.records = Records(self.database)
        self.housekeeping = Housekeeping(
            self.folder,
            self.database,
            library=lambda: self.library,
            keep_days=lambda: self.settings.keep_jobs_days,
            now=self.now,
            log=LOG,
        )
        self.backends = Backends(self.folder)
        self.origins = Origins(self.database, self.folder / "jobs")
        self.processing = Processing(
            self.folder,
            self.table,
            self.origins,
            settings=settings,
            backends=self.backends,
            log=LOG,
        )
        self._watching = Watching(self.inbox, path=self.proposal_path, settings=settings, log=LOG)
        self.arrivals = Arrivals(self._show, log=LOG)
        self.agents = AgentPool(
            self.folder, self.library, interpreter=self.processing.interpreter, settings=settings
        )
        self.context = ContextFile(
            self.folder / "context.py",
            library=self._whole_library,
            interpreter=self.processing.interpreter,
            register=self.table.register,
            mended=self._context_mended,
            backends=self.backends.for_variables,
            log=LOG,
        )

    def manager_context(self) -> ManagerContext:
        """What managers are given of this service."""
        return ManagerContext(
            folder=self.folder,
            library=self.library,
            interpreter=self.processing.interpreter,
            settings=lambda: self.settings,
            on_wake=lambda job: self.scheduler.wake(job),
            on_end=lambda job, _attempt: self.scheduler.wake(job),
            log=LOG.warning,
        )

    async def start_work(self) -> None:
        """Begin to run jobs, and to answer other programs over the control socket."""
        self._manager = Managers(self.manager_context(), self.backends)
        outside = Outside(
            manager=self._manager,
            folder=self.folder,
            settings=lambda: self.settings,
            request=self.processing.request,
            apply=self.processing.apply,
            combine=self.processing.combine,
            arrived=self.arrivals.arrived,
            explain=self.processing.explain,
            publish=self.hub.publish,
            loads=lambda loads: self.context.hear(loads=loads),
            revoke=revoke,
            log=LOG,
        )
        self.scheduler = Scheduler(self.queue, self.inbox, outside)
        await self.scheduler.start()
        self._control = ControlServer(self.folder, self.operations.handlers, log=LOG)
        try:
            await self._control.start(ENDPOINT_MODES[self.settings.share_with])
        except BaseException:
            await self.scheduler.stop(0.0)
            await self._manager.close()
            raise
        self._at_work = True

    async def start_sources(self) -> None:
        """Begin to notice what happens: runs that arrive, and edits of the context file."""
        self._tasks += [
            asyncio.create_task(self.context.watch()),
            asyncio.create_task(self._watching.run()),
            asyncio.create_task(self.housekeeping.run()),
            asyncio.create_task(self.database.until_replaced()),
        ]

    async def until(self, stop: asyncio.Event) -> None:
        """Serve until `stop`; what ends one of the parts ends the service with its exception."""
        stopping = asyncio.create_task(stop.wait())
        parts = [*self._tasks, *self._working()]
        try:
            done, _ = await asyncio.wait([stopping, *parts], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        for task in done - {stopping}:
            task.result()

    def _working(self) -> list[asyncio.Task[None]]:
        """What never ends while jobs are run here."""
        return [self._control.receiving, *self.scheduler.parts] if self._at_work else []

    async def close(self, *, finish: bool = False) -> None:
        """End everything; begun jobs get `stop_grace` seconds.

        With `finish` those that this process alone can run get all they need; the others go on
        without it, for the next one to take up.
        """
        await cancel(self._tasks)
        await self.context.close()
        if self._at_work:
            if finish:
                await self.scheduler.stop(FOR_EVER, waits_for=lambda job: job.backend == SEQUENTIAL)
            else:
                await self.scheduler.stop()
            # Until here it answers: an event is stored for the next one, who follows sees the end.
            await self._control.close()
            await self._manager.close()
        await self.arrivals.close()
        await self.processing.close()
        await self.database.close()
        await self.table.close()

    # What is asked of it

    async def proposal_path(self, proposal: int | None = None) -> Path | None:
        """The folder with raw/ and proc/ of a proposal, or of ours; None when it is not known."""
        return await asyncio.to_thread(self.processing.proposal.path, proposal)

    async def runs_on_disk(self, proposal: int | None = None) -> dict[int, Selection]:
        """The runs of a proposal, or of ours, that have data, and of which kind."""
        root = await self.proposal_path(proposal)
        if root is None:
            return {}
        kinds: dict[int, set[Data]] = {}
        for data, run, _ in await asyncio.to_thread(existing_runs, root, self.settings.runs):
            kinds.setdefault(run, set()).add(data)
        return {run: "all" if len(found) == 2 else found.pop() for run, found in kinds.items()}

    async def submit(self, works: Sequence[Work], *, at_once: int | None = None) -> list[Job]:
        """Queue `works` and begin to work on them, on at most `at_once` of them at once."""
        await self.work()
        return await self.scheduler.submit(works, at_once=at_once)

    async def work(self) -> None:
        """Begin to run jobs unless that has begun: a command does so when it has to."""
        if not self._at_work:
            await self.start_work()

    @property
    def working_scheduler(self) -> Scheduler | None:
        """What gets jobs done, if this service has begun with that."""
        return self.scheduler if self._at_work else None

    def running(self) -> list[dict[str, Any]]:
        """The jobs at work, each with how far it is."""
        return self.scheduler.running() if self._at_work else []

    def waiting(self) -> str | None:
        """Why queued jobs do not start, if something is in the way of all of them."""
        return self.scheduler.waiting if self._at_work else None

    async def context_state(self) -> dict[str, Any]:
        """{"ok", "problems", "loading"} of the context file: what jobs wait for comes first."""
        state = await self.context.state()
        broken = self.scheduler.broken if self._at_work else None
        return state if broken is None else {"ok": False, "problems": broken, "loading": False}

    def _whole_library(self) -> Path:
        restore(self.library)
        return self.library

    def _context_mended(self) -> None:
        if self._at_work:
            self.scheduler.try_again()

    def sources(self) -> list[str]:
        """Where events come from, in words."""
        if not self._at_work:
            return []
        watched = self._watching.describe()
        return [
            *([] if watched is None else [watched]),
            "notify and ZeroMQ messages (control.json)",
        ]

    async def settings_changed(self) -> None:
        """Take over settings that were changed."""
        self.settings = await self.table.settings()
        os.umask(self.settings.umask)
        self._watching.settings_changed()
        if self._at_work:
            self.scheduler.reconsider()

    async def _show(self, events: Sequence[MigrationEvent]) -> None:
        """Take over settings that other programs wrote into the table, and make the runs' rows."""
        await self.settings_changed()
        await self.processing.arrived(events)
        for event in events:
            self.hub.publish({"kind": "run", "proposal": event.proposal, "run": event.run})
