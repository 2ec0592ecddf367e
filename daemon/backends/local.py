"""Runs jobs on this machine, through a fork server for each context, Python and mode."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from ctxlib import claim
from ctxlib.imports import stamp
from ctxlib.job_folder import REQUEST
from ctxlib.memory import parse_memory
from daemon.backends import ContextBroken, Status, Unavailable
from daemon.backends.configurations.local import LocalConfig
from daemon.backends.configurations.secrets import SecretError
from daemon.backends.context import ManagerContext
from daemon.backends.forkserver import Answer, ForkServer, KilledLoading
from daemon.backends.here import fence, look_at
from daemon.backends.own_process import OwnProcesses, not_taken
from daemon.backends.server_process import ServerKey

# A context that is edited more often than this while one job waits is not ready for it.
_MOST_RELOADS = 10
# How often to look whether a context was edited while it is loaded.
_LOOK_SECONDS = 1.0


class LocalManager:
    """Submits attempts to fork servers, which it starts, replaces and lets go."""

    def __init__(
        self,
        config: LocalConfig,
        context: ManagerContext,
        *,
        load_limit: float = 300.0,
        terminal: bool = False,
        free_memory: Callable[[], int] = lambda: psutil.virtual_memory().available,
    ) -> None:
        """Run jobs in the environment that `config` gives them.

        A context file has `load_limit` seconds to be loaded; with `terminal` its output and that
        of jobs stays on the terminal. `free_memory` is in bytes.
        """
        self._config = config
        self._context = context
        self._load_limit = load_limit
        self._terminal = terminal
        self._free_memory = free_memory
        self._servers: dict[ServerKey, ForkServer] = {}
        self._starting: dict[ServerKey, asyncio.Lock] = {}
        # Those that were replaced still have their last jobs.
        self._living: set[ForkServer] = set()
        self._at_work: dict[str, ForkServer] = {}
        self._own = OwnProcesses(context)
        self._wake: tuple[socket.socket, socket.socket] | None = None

    def room(self, at_work: int) -> int:
        """How many more there may be by `local_jobs`; raises Unavailable when memory is short."""
        settings = self._context.settings()
        left = settings.local_jobs - at_work
        free = self._free_memory() if left > 0 else 0
        if left > 0 and free <= parse_memory(settings.memory_reserve):
            raise Unavailable(
                f"{free / 2**30:.1f} GB of memory are free, memory_reserve is "
                f"{settings.memory_reserve}"
            )
        return left

    async def submit(self, attempt_dir: Path) -> str:
        """Hand an attempt to a fork server; return its handle once a process has claimed it.

        Raises ContextBroken when the context cannot be executed, OSError or ValueError when the
        request cannot be read.
        """
        request = json.loads(await asyncio.to_thread((attempt_dir.parent / REQUEST).read_bytes))
        handle = str(attempt_dir)
        if request.get("command") is not None:
            await self._own.start(attempt_dir, dict(self._environment()))
            return handle
        # An earlier attempt may have ended its server, and other jobs with it.
        alone = "" if attempt_dir.name == "1" else handle
        key = ServerKey(
            Path(request["context"]),
            self._context.interpreter(),
            self._context.settings().process_start,
            alone,
            self._environment(),
        )
        for _ in range(_MOST_RELOADS):
            server = await self._server(key)
            self._at_work[handle] = server
            answer = await self._offer(server, handle)
            if answer.kind == "accepted":
                return handle
            self._at_work.pop(handle, None)
            if alone:
                self._let_go(server)
            if answer.kind == "claimed" or claim.exists(attempt_dir):
                return handle
            if answer.kind == "rejected":
                raise answer.error(f"{attempt_dir} cannot be run")
            if answer.kind == "stopped":
                server.give_up()
                self._context.log(
                    f"{key.context}: its fork server, process {server.pid}, is stopped (SIGCONT "
                    "would let it go on); another one takes new jobs"
                )
            self._let_go(server)
        message = f"{key.context} was changed {_MOST_RELOADS} times while it was loaded"
        raise ContextBroken([{"message": message, "line": None, "variable": None, "mend": ""}])

    def _environment(self) -> tuple[tuple[str, str], ...]:
        try:
            return tuple(sorted(self._config.environment().items()))
        except SecretError as error:
            raise Unavailable(str(error)) from error

    async def _offer(self, server: ForkServer, handle: str) -> Answer:
        """Offer an attempt to a server; one that hangs is ended, with all that it is at."""
        limit = self._context.settings().queue_claim_ttl
        try:
            async with asyncio.timeout(limit):
                return await server.start(handle)
        except TimeoutError:
            server.kill()
            self._let_go(server)
            raise not_taken(limit) from None

    async def poll(self, handles: Iterable[str]) -> dict[str, Status]:
        """Read how attempts are doing from their folders, whoever started them."""
        return await asyncio.to_thread(self._poll, list(handles))

    def _poll(self, handles: list[str]) -> dict[str, Status]:
        return {
            handle: Status("running")
            if handle in self._at_work and _unclaimed(Path(handle))
            else look_at(Path(handle))
            for handle in handles
        }

    async def cancel(self, handle: str, reason: str) -> None:
        """Ask for the end of an attempt; whoever watches it ends all its processes."""
        # A server that was retired, or that an earlier daemon started, hears nobody. It looks here
        # once a second.
        await asyncio.to_thread(claim.request_stop, Path(handle), reason)
        server = self._at_work.get(handle)
        if server is not None:
            server.send({"cancel": handle, "reason": reason})

    async def fence(self, handle: str, reason: str) -> None:
        """End the process that claimed it, all it is at, and what it has started, if it is here."""
        await asyncio.to_thread(fence, Path(handle), reason)

    async def close(self) -> None:
        """Let go of all servers; each ends with its last job."""
        await asyncio.gather(*(server.close() for server in self._living))
        self._servers.clear()
        self._at_work.clear()
        self._own.close()
        if self._wake is not None:
            reading, writing = self._wake
            asyncio.get_running_loop().remove_reader(reading)
            reading.close()
            writing.close()
            self._wake = None

    async def _server(self, key: ServerKey) -> ForkServer:
        """The server for `key`, started if there is none."""
        async with self._starting.setdefault(key, asyncio.Lock()):
            server = self._servers.get(key)
            if server is not None and server.usable:
                return server
            self._make_room()
            try:
                server = await self._launch(key)
            except KilledLoading as killed:
                self._context.log(f"{key.context}: {killed}; trying once more")
                server = await self._launch(key)
            if server.note:
                self._context.log(f"{key.context}: {server.note}")
            self._servers[key] = server
            self._living.add(server)
            server.listening.add_done_callback(lambda _: self._living.discard(server))
            return server

    async def _launch(self, key: ServerKey) -> ForkServer:
        while True:
            server = self._new_server(key)
            loading = asyncio.create_task(server.launch(self._load_limit))
            await _end_when_edited(loading, key.context)
            if not loading.cancelled():
                loading.result()
                return server

    def _new_server(self, key: ServerKey) -> ForkServer:
        return ForkServer(
            key,
            folder=self._context.folder,
            library=self._context.library,
            wake=self._wake_end(),
            terminal=self._terminal,
            idle_seconds=lambda: self._context.settings().idle_seconds,
            on_end=self._ended,
        )

    def _make_room(self) -> None:
        """Let go of the servers that have been used least lately, if there are too many."""
        usable = [server for server in self._servers.values() if server.usable]
        usable.sort(key=lambda server: (server.busy, server.last_used))
        for server in usable[: max(0, len(usable) + 1 - self._context.settings().max_servers)]:
            self._let_go(server)

    def _let_go(self, server: ForkServer) -> None:
        server.retire()
        if self._servers.get(server.key) is server:
            del self._servers[server.key]
            if server.key.alone:
                self._starting.pop(server.key, None)

    def _ended(self, server: ForkServer, handles: list[str]) -> None:
        if server.key.alone:
            self._let_go(server)
        for handle in handles:
            if self._at_work.get(handle) is server:
                del self._at_work[handle]
            folder = Path(handle)
            self._context.on_end(folder.parent.name, int(folder.name))

    def _wake_end(self) -> socket.socket:
        """The end of a datagram socket that runners write job ids to."""
        if self._wake is None:
            self._wake = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            reading = self._wake[0]
            reading.setblocking(False)
            asyncio.get_running_loop().add_reader(reading, self._hear_wakes, reading)
        return self._wake[1]

    def _hear_wakes(self, reading: socket.socket) -> None:
        jobs: dict[str, None] = {}
        with contextlib.suppress(BlockingIOError):
            while True:
                jobs[reading.recv(4096).decode()] = None
        for job in jobs:
            self._context.on_wake(job)


async def _end_when_edited(loading: asyncio.Task[None], context: Path) -> None:
    """Wait for `loading`; cancel it when the file is edited meanwhile, as it may never end."""
    before = await asyncio.to_thread(_stamp, str(context))
    try:
        while not (await asyncio.wait([loading], timeout=_LOOK_SECONDS))[0]:
            if await asyncio.to_thread(_stamp, str(context)) != before:
                return
    finally:
        loading.cancel()
        await asyncio.wait([loading])


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        return stamp(path)
    except OSError:
        return None


def _unclaimed(attempt_dir: Path) -> bool:
    """Tell whether an attempt is there, and not claimed yet."""
    return attempt_dir.is_dir() and not claim.exists(attempt_dir)
