"""The listener's parts put together: many databases, each kept up and handed its events."""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from daemon.control import ServiceError
from daemon.control_server import ControlServer
from daemon.database import Database
from daemon.events import MigrationEvent
from daemon.filesystem import is_network
from daemon.handover import Handover
from daemon.jobs.housekeeping import DAY, EVERY_SECONDS, FIRST_SECONDS
from daemon.listener import NAME, deliveries
from daemon.listener.courier import Courier
from daemon.listener.deliveries import Deliveries
from daemon.listener.keeper import Keeper
from daemon.listener.operations import ListenerOperations
from daemon.listener.registry import Registered, Registry, RegistryError, official_databases
from daemon.listener.settings import ListenerSettings
from daemon.lock import Holder
from daemon.settings import UMASKS

LOG = logging.getLogger("runtable")
LOOK_SECONDS = 1.0
"""How often listener.sqlite is read, which commands and other programs change."""
KEPT_DAYS = 14
"""How long an event is kept that all databases have got and later ones followed."""
ENDPOINT_MODES: Mapping[str, int] = {"owner": 0o600, "group": 0o640, "all": 0o640}
"""Permissions of control.json: whoever reads it may do everything, so never for all."""


@dataclass
class _Served:
    """A database that is served: what it is called, and the two that work for it."""

    known: Registered
    keeper: Keeper
    courier: Courier
    tasks: list[asyncio.Task[None]]


class Listener:
    """Serves the databases that are listed in one folder; its lock is the caller's to hold.

    It has the same life as the `Service` of one database, and commands find either.
    """

    def __init__(self, folder: Path, *, daemon: Holder | None = None) -> None:
        """Serve `folder`, as the process that `daemon` describes or for a single command."""
        self.folder = folder
        self.identity = None if daemon is None else asdict(daemon)
        self.handover = Handover(list)  # asked of commands with jobs of their own only
        self.settings = ListenerSettings()
        self.warnings: list[str] = []
        self.now = time.time
        self.registry = Registry(folder)
        self.operations = ListenerOperations(self)
        self._known: list[Registered] = []
        self._listed = False
        self._served: dict[Path, _Served] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._pruning: asyncio.Task[None] | None = None
        self._control: ControlServer | None = None

    async def open(self, _create: int | None = None) -> None:
        """Open the files. Raises ServiceError or SchemaError when that cannot be."""
        os.umask(UMASKS[self.settings.share_with])
        try:
            await self._look()
        except RegistryError as error:
            raise ServiceError(str(error)) from error
        self._database = Database(
            self.folder / deliveries.NAME,
            migrations=deliveries.MIGRATIONS,
            wal=not is_network(self.folder),
        )
        await self._database.open()
        self.deliveries = Deliveries(self._database)

    async def start_work(self) -> None:
        """Begin to answer other programs over the control socket."""
        self._control = ControlServer(self.folder, self.operations.handlers, log=LOG)
        await self._control.start(ENDPOINT_MODES[self.settings.share_with])

    async def start_sources(self) -> None:
        """Begin to keep up the databases, whose daemons watch for their runs."""
        if self._listed:
            for gone in await self.deliveries.waiting_for() - {str(k.folder) for k in self._known}:
                await self.deliveries.forget(gone)  # it was taken out while nobody listened
        self._serve_what_is_listed()
        self._watching = asyncio.create_task(self._watch())
        self._pruning = _go_on(self._prune, "old events")

    async def until(self, stop: asyncio.Event) -> None:
        """Serve until `stop`; what ends one of the parts ends the listener with its exception."""
        assert self._watching is not None
        assert self._control is not None
        stopping = asyncio.create_task(stop.wait())
        parts = [stopping, self._watching, self._control.receiving]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        for task in done - {stopping}:
            task.result()

    async def close(self, *, finish: bool = False) -> None:  # noqa: ARG002 - as the service of one
        """End the databases' daemons, all at once, and then everything else."""
        await _cancel([task for task in (self._watching, self._pruning) if task is not None])
        leaving = [self._leave(served) for served in self._served.values()]
        await asyncio.gather(*leaving, *self._leaving)
        if self._control is not None:
            await self._control.close()
        await self._database.close()

    async def _prune(self) -> None:
        """Remove old events now and then, as the daemon of a database does."""
        pause = FIRST_SECONDS
        while True:
            await asyncio.sleep(pause)
            pause = EVERY_SECONDS
            if removed := await self.deliveries.prune(self.now() - KEPT_DAYS * DAY):
                LOG.info("removed by age: %d events and dead letters", removed)

    # What is asked of it

    def databases(self) -> list[tuple[Registered, dict[str, Any]]]:
        """The databases, each with what its keeper and its courier say of it."""
        return [(known, self._describe(known)) for known in self._known]

    async def store(
        self, event: MigrationEvent, databases: Sequence[Path], letter: int | None = None
    ) -> bool:
        """Store `event` for `databases`; False when it was there already.

        `letter` is the number of the dead letter that it was.
        """
        stored = await self.deliveries.store(event, [str(path) for path in databases], letter)
        for folder in databases:
            if folder in self._served:
                self._served[folder].courier.wake()
        return stored

    async def concerned(self, proposal: int) -> list[Path]:
        """The databases of `proposal`; its own one is added to them where settings say so."""
        await self._refresh()
        if not self.settings.static_mode:
            await self._add_official(proposal)
        return [known.folder for known in self._known if known.proposal == proposal]

    async def _add_official(self, proposal: int) -> None:
        for folder in await asyncio.to_thread(official_databases, proposal):
            try:
                if await asyncio.to_thread(self.registry.add, proposal, folder):
                    LOG.info("proposal %d: added its own database %s", proposal, folder)
                    await self._refresh()
            except RegistryError as error:
                LOG.error("%s", error)

    def _describe(self, known: Registered) -> dict[str, Any]:
        served = self._served.get(known.folder)
        if served is None:
            return {"state": "the listener does not run", "pid": None, "since": None, "trouble": ""}
        return {**served.keeper.describe(), "trouble": served.courier.trouble}

    # What is listed

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._refresh()

    async def _refresh(self) -> None:
        """Take over what listener.sqlite has now; while it cannot be read, what was known holds."""
        sandbox = self.settings.sandbox_args
        try:
            await self._look()
        except RegistryError as error:
            self.warnings = [str(error)]
            return
        if self._watching is None:
            return  # a command, which serves nobody
        if self.settings.sandbox_args != sandbox:
            LOG.info("sandbox_args has changed: the databases' daemons are started anew")
            for served in self._served.values():
                served.keeper.restart()
        self._serve_what_is_listed()

    async def _look(self) -> None:
        rows = await asyncio.to_thread(self.registry.settings)
        known = await asyncio.to_thread(self.registry.databases)
        exists = await asyncio.to_thread(self.registry.exists)
        if self._listed and not exists:
            # Nobody has taken out the databases that it listed: their events go on waiting.
            raise RegistryError(
                f"{self.folder / NAME} is gone; put it back, or restart the listener and add the "
                "databases anew with `runtable listener add`"
            )
        self._listed = exists
        self.settings, warnings = ListenerSettings.from_rows(rows)
        for warning in set(warnings) - set(self.warnings):
            LOG.warning("%s", warning)
        self.warnings, self._known = warnings, known

    def _serve_what_is_listed(self) -> None:
        listed = {known.folder: known for known in self._known}
        for folder in self._served.keys() - listed.keys():
            LOG.info("%s: served no more", folder)
            served = self._served.pop(folder)
            leaving = asyncio.create_task(self._forget(served))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
        for folder, known in listed.items():
            if folder not in self._served:
                self._served[folder] = self._serve(known)

    def _serve(self, known: Registered) -> _Served:
        courier = Courier(known.folder, self.deliveries)
        keeper = Keeper(
            known.folder,
            sandbox=lambda: self.settings.sandbox_args,
            stop_grace=lambda: self.settings.stop_grace,
            came=courier.wake,
            log=LOG,
        )
        name = str(known.folder)
        tasks = [_go_on(courier.run, name), _go_on(keeper.run, name)]
        return _Served(known, keeper, courier, tasks)

    async def _forget(self, served: _Served) -> None:
        await self._leave(served)
        await self.deliveries.forget(str(served.known.folder))

    async def _leave(self, served: _Served) -> None:
        await _cancel(served.tasks)
        served.courier.close()


def _go_on(work: Callable[[], Awaitable[None]], name: str) -> asyncio.Task[None]:
    """Do `work`, which has no end, for the database `name`; again when an error ends it."""

    async def forever() -> None:
        while True:
            try:
                await work()
            except Exception:  # one database must not end the work for the others
                LOG.exception("%s: ended by an error; trying again", name)
            await asyncio.sleep(LOOK_SECONDS)

    return asyncio.create_task(forever())


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
