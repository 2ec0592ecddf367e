"""How a command reaches the one who may write a folder: the daemon, or itself for that moment.

When somebody holds the folder's lock, requests go over the control socket. Otherwise the command
takes the lock and answers its own requests through the same service. A daemon that starts
meanwhile asks for the lock: the command finishes what it has begun, hands over, and goes on
following the daemon.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from daemon.lock import FolderLock, Holder

if TYPE_CHECKING:  # imported where needed, because every command's start would pay for them
    from daemon.control import ControlClient

WAIT_SECONDS = 15.0
"""How long the lock may be held by one who does not answer: who starts, ends, or is short."""


class Connection(Protocol):
    """A way to ask for operations (daemon/operations.py)."""

    remote: bool
    daemon: Holder | None

    def call(self, op: str, **arguments: Any) -> Any:
        """The result of operation `op`; raises ServiceError."""

    def stream(self, op: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """The items of operation `op` as they come; raises ServiceError."""


@contextmanager
def connect(folder: Path, *, create: int | None = None) -> Iterator[Connection]:
    """A connection to whoever may write `folder`.

    `create` makes a blank database for that proposal when there is none and no daemon runs.
    Raises ServiceError when the folder has no database, or its holder does not answer.
    """
    from daemon.control import ServiceError

    if create is None and not folder.is_dir():
        raise ServiceError(f"{folder} is not there; make a database with `runtable init DIR`")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(folder)
    holder = _take_or_find(folder, lock)
    connection: RemoteConnection | LocalConnection
    if holder is not None:
        connection = RemoteConnection(folder, holder)
    else:
        connection = LocalConnection(folder, lock, create)
    try:
        yield connection
    finally:
        connection.close()


def _take_or_find(folder: Path, lock: FolderLock) -> Holder | None:
    """Take the lock, or find the holder that answers; waits for a moment of neither."""
    from daemon.control import Endpoint, ServiceError

    deadline = time.monotonic() + WAIT_SECONDS
    while not lock.acquire("command", time.time()):
        holder, endpoint = lock.holder(), Endpoint.read(folder)
        if holder is not None and endpoint is not None and endpoint.pid == holder.pid:
            return holder
        if time.monotonic() > deadline:
            who = str(holder) if holder is not None else "another process"
            raise ServiceError(
                f"{folder} is in use by {who}, which does not answer; see amore.log, "
                "or end that process and try again"
            )
        time.sleep(0.02)
    return None


class RemoteConnection:
    """Requests go to the holder of the folder, over its control socket."""

    remote = True

    def __init__(self, folder: Path, holder: Holder) -> None:
        """Connect to `holder`, which has published its endpoint in `folder`."""
        self.daemon: Holder | None = holder if holder.role == "daemon" else None
        self._client = _client(folder, holder)

    def close(self) -> None:
        """Leave; what was asked for goes on."""
        self._client.close()

    def call(self, op: str, **arguments: Any) -> Any:
        """The result of operation `op`."""
        return self._client.call(op, **arguments)

    def stream(self, op: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """The items of operation `op`."""
        return self._client.stream(op, **arguments)


def _client(folder: Path, holder: Holder) -> "ControlClient":
    import socket

    from daemon.control import ControlClient, Endpoint, ServiceError

    endpoint = Endpoint.read(folder)
    if endpoint is None:
        raise ServiceError(f"{holder} has just ended; try again")
    if holder.host != socket.gethostname():
        raise ServiceError(f"{folder} is held by {holder}: run this command on {holder.host}")
    return ControlClient(endpoint)


class LocalConnection:
    """Requests are answered in this process, which holds the folder's lock meanwhile."""

    remote = False
    daemon: Holder | None = None

    def __init__(self, folder: Path, lock: FolderLock, create: int | None) -> None:
        """Open a service on `folder`, whose `lock` is held; `create` as for `connect`."""
        from daemon.service import Service

        self._folder = folder
        self._lock = lock
        self._runner = asyncio.Runner()
        self._service: Service | None = None
        self._after: RemoteConnection | None = None
        try:
            service = Service(folder)
            self._runner.run(service.open(create))
            self._service = service
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the service, letting begun jobs end as a daemon does, and give the lock back."""
        if self._service is not None:
            self._runner.run(self._service.close())
            self._service = None
        self._runner.close()
        self._lock.release()
        if self._after is not None:
            self._after.close()

    def call(self, op: str, **arguments: Any) -> Any:
        """The result of operation `op`."""
        if self._service is None:
            return self._successor().call(op, **arguments)
        return self._runner.run(self._service.operations.call(op, **arguments))

    def stream(self, op: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """The items of operation `op`, from here or, after a handover, from the daemon."""
        service = self._service
        if service is not None:
            items = service.operations.stream(op, **arguments)
            while True:
                item = self._runner.run(service.unless_handed_over(items))
                if item is None:
                    break
                yield item
            if not service.handed_over:
                return
            self._runner.run(service.close(finish=True))
            self._service = None
            self._lock.release()
        yield from self._successor().stream(op, **arguments)

    def _successor(self) -> RemoteConnection:
        """The daemon that this command handed its folder over to."""
        from daemon.control import ServiceError

        if self._after is None:
            deadline = time.monotonic() + WAIT_SECONDS
            while (holder := _take_or_find(self._folder, self._lock)) is None:
                self._lock.release()  # the daemon has not come yet
                if time.monotonic() > deadline:
                    raise ServiceError("the daemon that asked for this folder did not come")
                time.sleep(0.05)
            self._after = RemoteConnection(self._folder, holder)
        return self._after
