"""How the HTTP service asks the daemon: over the control socket, found anew after each restart."""

import asyncio
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from daemon.control import ControlClient, Endpoint, GoneError, ServiceError
from daemon.lock import FolderLock

AT_ONCE = 16
"""Requests that the daemon is asked at once; more wait."""
SILENCE_SECONDS = 10.0


class Link:
    """Asks whoever holds `folder`; each request in a thread, as an answer may take its time."""

    def __init__(self, folder: Path) -> None:
        """Nothing is opened before somebody asks."""
        self.folder = folder
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="control")
        self._lock = threading.Lock()
        self._idle: list[tuple[Endpoint, ControlClient]] = []

    async def call(self, op: str, **arguments: Any) -> Any:
        """The result of operation `op`; raises ServiceError, GoneError while nobody answers."""
        work = partial(self._call, op, arguments)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def is_up(self) -> bool:
        """Whether somebody is there to be asked, as far as that can be seen without asking."""
        try:
            return await asyncio.to_thread(self._endpoint) is not None
        except GoneError:  # on another host
            return False

    def close(self) -> None:
        """Close all connections."""
        self._threads.shutdown()
        for _, client in self._idle:
            client.close()
        self._idle.clear()

    def _call(self, op: str, arguments: dict[str, Any]) -> Any:
        endpoint = self._endpoint()
        if endpoint is None:
            raise self._away()
        client = self._take(endpoint)
        try:
            answer = client.call(op, **arguments)
        except GoneError as error:
            client.close()
            if self._endpoint() is None:
                raise self._away() from error
            raise
        except ServiceError:
            self._give(endpoint, client)
            raise
        except BaseException:
            client.close()
            raise
        self._give(endpoint, client)
        return answer

    def _endpoint(self) -> Endpoint | None:
        """Where to ask; None when whoever has published that has ended without taking it back."""
        endpoint = Endpoint.read(self.folder)
        if endpoint is None:
            return None
        holder = FolderLock(self.folder).holder()
        if holder is not None and holder.host != socket.gethostname():
            raise GoneError(
                f"{self.folder} is held by {holder}: the web has to run on {holder.host} too"
            )
        try:
            os.kill(endpoint.pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass  # it is there, and another user's
        return endpoint

    def _away(self) -> GoneError:
        return GoneError(
            f"no daemon serves {self.folder}: start it with "
            f"`runtable listen --daemonize {self.folder}`; this goes on when it runs"
        )

    def _take(self, endpoint: Endpoint) -> ControlClient:
        with self._lock:
            stale = [client for known, client in self._idle if known != endpoint]
            self._idle = [pair for pair in self._idle if pair[0] == endpoint]
            found = self._idle.pop()[1] if self._idle else None
        for client in stale:
            client.close()
        return found or ControlClient(endpoint, silence=SILENCE_SECONDS, current=self._endpoint)

    def _give(self, endpoint: Endpoint, client: ControlClient) -> None:
        with self._lock:
            self._idle.append((endpoint, client))
