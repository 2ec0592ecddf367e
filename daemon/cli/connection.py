"""How a command reaches the one who may write a folder: the daemon, or itself for that moment.

When somebody holds the folder's lock, requests go over the control socket. Otherwise the command
takes the lock and answers its own requests through the same service. Who holds the folder may
change while a command follows its work: a daemon that starts asks the command to hand over, one
that is restarted is followed again, and a command goes on with what another one left.
"""

import errno
import logging
import sqlite3
import stat
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from daemon.lock import FolderLock, Holder

if TYPE_CHECKING:  # imported where needed, because every command's start would pay for them
    import asyncio

    from daemon.control import ControlClient, ServiceError
    from daemon.listener.service import Listener
    from daemon.service import Service

LOG = logging.getLogger("runtable")
READING = frozenset({"status", "events", "jobs", "job", "settings", "plan"})
"""Operations that only read, which one can have who may not write the folder."""
WAIT_SECONDS = 15.0
"""How long the lock may be held by one who does not answer: who starts, ends, or is short."""


@contextmanager
def connect(folder: Path, *, create: int | None = None) -> Iterator["Connection"]:
    """A connection to whoever may write `folder`.

    `create` makes a blank database for that proposal when there is none and no daemon runs.
    Raises ServiceError when the folder has no database, or its holder does not answer.
    """
    connection = Connection(folder, create)
    try:
        yield connection
    finally:
        connection.close()


class Connection:
    """Asks for operations (daemon/operations.py), here or of the folder's holder.

    `daemon` describes the process that answers if it is a daemon.
    """

    def __init__(self, folder: Path, create: int | None = None) -> None:
        """Reach whoever holds `folder`, or take its lock; `create` as for `connect`."""
        self._folder = folder
        self._lock = FolderLock(folder)
        self._client: ControlClient | None = None
        self._service: Service | Listener | None = None
        self._runner: asyncio.Runner | None = None
        self._refusal: ServiceError | None = None
        self.daemon: Holder | None = None
        try:
            self._open(create)
        except OSError as error:
            if not _forbidden(error):
                raise
            self._look(error)

    def close(self) -> None:
        """Leave. What was asked of others goes on; what began here gets the time to end."""
        self._leave(finish=False)

    def call(self, op: str, **arguments: Any) -> Any:
        """The result of operation `op`; raises ServiceError."""
        LOG.debug("asking for %s %s", op, arguments)
        if self._refusal is not None and op not in READING:
            raise self._refusal
        if self._client is not None:
            return self._client.call(op, **arguments)
        assert self._service is not None
        return self._run(self._service.operations.call(op, **arguments))

    def stream(self, op: str, **arguments: Any) -> Generator[dict[str, Any], None, None]:
        """The items of operation `op` as they come; raises ServiceError.

        When whoever answers ends or hands over, the next one is asked for the same.
        """
        from daemon.control import GoneError

        if self._refusal is not None:
            raise self._refusal
        while True:
            LOG.debug("following %s %s", op, arguments)
            try:
                if self._client is not None:
                    yield from self._client.stream(op, **arguments)
                    return
                yield from self._here(op, arguments)
                if not self._handed_over():
                    return
            except GoneError:
                pass  # it was restarted, or was a command that has done its own part
            self._leave(finish=True)
            self._open(None)

    def _here(self, op: str, arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
        service = cast("Service", self._service)  # a listener has no operations with streams
        items = service.operations.stream(op, **arguments)
        while (item := self._run(service.handover.next_of(items))) is not None:
            yield item

    def _handed_over(self) -> bool:
        return self._service is not None and self._service.handover.asked

    def _open(self, create: int | None) -> None:
        holder = self._holder()
        if holder is not None:
            LOG.debug("%s answers for %s", holder, self._folder)
            self.daemon = holder if holder.role == "daemon" else None
            self._client = _client(self._folder, holder)
            return
        import asyncio

        LOG.debug("nobody serves %s: it is served here", self._folder)
        self.daemon = None
        self._runner = asyncio.Runner()
        try:
            service = self._make_service()
            self._run(service.open(create))
            self._service = service
        except BaseException:
            self._leave(finish=False)
            raise

    def _look(self, error: OSError) -> None:
        """Serve what only reads, as the folder may not be written; raises ServiceError."""
        import asyncio

        from daemon.control import ServiceError
        from daemon.listener import is_listener
        from daemon.service import Service

        self._refusal = _refusal(self._folder, error)
        self._leave(finish=False)
        if is_listener(self._folder):
            raise self._refusal from error
        self._runner = asyncio.Runner()
        service = Service(self._folder, read_only=_only_read(self._folder, error))
        try:
            self._run(service.open())
        except (OSError, sqlite3.Error, ServiceError) as unreadable:
            self._leave(finish=False)
            raise self._refusal from unreadable
        self._service = service

    def _make_service(self) -> "Service | Listener":
        from daemon.listener import is_listener

        if is_listener(self._folder):
            from daemon.listener.service import Listener

            return Listener(self._folder)
        from daemon.service import Service

        return Service(self._folder)

    def _leave(self, *, finish: bool) -> None:
        """Let go; with `finish` wait for the jobs that can go on nowhere else."""
        if self._client is not None:
            self._client.close()
            self._client = None
        handed_over = self._handed_over()
        if self._service is not None:
            self._run(self._service.close(finish=finish))
            self._service = None
        if self._runner is not None:
            self._runner.close()
            self._runner = None
        self._lock.release()
        if handed_over:
            _give_way(self._folder)

    def _run(self, work: Any) -> Any:
        from daemon.control import ServiceError
        from daemon.database import SchemaError

        assert self._runner is not None
        try:
            return self._runner.run(work)
        except SchemaError as error:
            raise ServiceError(str(error)) from error

    def _holder(self) -> Holder | None:
        """Take the lock, or find the holder that answers; waits for a moment of neither."""
        from daemon.control import Endpoint, ServiceError

        if not self._folder.is_dir():
            raise ServiceError(f"{self._folder} is no folder; `runtable init DIR` makes one")
        deadline = time.monotonic() + WAIT_SECONDS
        while not self._lock.acquire("command", time.time()):
            holder, endpoint = self._lock.holder(), Endpoint.read(self._folder)
            if holder is not None and endpoint is not None and endpoint.pid == holder.pid:
                return holder
            if time.monotonic() > deadline:
                who = str(holder) if holder is not None else "another process"
                raise ServiceError(
                    f"{self._folder} is in use by {who}, which does not answer; see amore.log, "
                    "or end that process and try again"
                )
            time.sleep(0.02)
        return None


def _forbidden(error: OSError) -> bool:
    """Whether `error` says that something may not be written, or not even be looked at."""
    return isinstance(error, PermissionError) or error.errno == errno.EROFS


def _only_read(folder: Path, error: OSError) -> str:
    """What one is told who sees what is in the files of a folder, and not what its daemon knows."""
    return (
        f"{folder} may not be written from here ({error.strerror}): this is what its files say, "
        "without what only its daemon knows"
    )


def _refusal(folder: Path, error: OSError) -> "ServiceError":
    """What one who may not write the folder is told: whose it is, and what can be done without."""
    import getpass

    from daemon.control import ServiceError

    reading = "who may read the folder can look at its jobs, its table and its results"
    if error.errno == errno.EROFS:
        return ServiceError(
            f"{folder} is on a disk that is mounted read-only here ({error.strerror}): run this "
            f"command where it can be written; {reading}"
        )
    closed = Path(error.filename or folder)
    while not closed.exists():
        closed = closed.parent
    owner, group = _owners(closed)
    whom = f"the user {owner}"
    if closed.stat().st_mode & stat.S_IWGRP:
        whom += f" and the group {group}"
    return ServiceError(
        f"{getpass.getuser()} may not use the service of {folder}: {closed} is for {whom} "
        f"({error.strerror}). Ask {owner} for access; {reading} (RunTable of ctxlib)"
    )


def _owners(path: Path) -> tuple[str, str]:
    """The user and the group that `path` belongs to, by number where they have no name."""
    info = path.stat()
    try:
        return path.owner(), path.group()
    except KeyError:
        return str(info.st_uid), str(info.st_gid)


def _give_way(folder: Path) -> None:
    """Wait until the daemon that asked for the folder has taken its lock, or does not come."""
    lock = FolderLock(folder)
    deadline = time.monotonic() + WAIT_SECONDS
    while lock.acquire("command", time.time()) and time.monotonic() < deadline:
        lock.release()
        time.sleep(0.3)  # longer than a waiting daemon takes to try again
    lock.release()


def _client(folder: Path, holder: Holder) -> "ControlClient":
    import socket

    from daemon.control import ControlClient, Endpoint, GoneError, ServiceError

    endpoint = Endpoint.read(folder)
    if endpoint is None:
        raise GoneError(f"{holder} has just ended; try again")
    if holder.host != socket.gethostname():
        raise ServiceError(f"{folder} is held by {holder}: run this command on {holder.host}")
    return ControlClient(endpoint, current=lambda: Endpoint.read(folder))
