"""Hands a listener's events to the daemon of one database, each once, in order, until it has them.

It works in a thread of its own, so that a daemon that hangs holds up nobody else's events.
"""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from daemon.control import ControlClient, Endpoint, ServiceError
from daemon.listener.deliveries import Deliveries, Delivery
from daemon.lock import FolderLock

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0


class Courier:
    """Delivers to the database in `folder`; `trouble` says why events wait, or is empty."""

    def __init__(self, folder: Path, deliveries: Deliveries) -> None:
        """Hand over what `deliveries` has for `folder`."""
        self.trouble = ""
        self._folder = folder
        self._database = str(folder)
        self._deliveries = deliveries
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="courier")

    def wake(self) -> None:
        """Look now: something new is there, or the daemon may answer again."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver, until cancelled."""
        pause = FIRST_PAUSE
        while True:
            self._wake.clear()
            waiting = await self._deliveries.waiting(self._database)
            try:
                for delivery in waiting:
                    await self._deliver(delivery)
            except (ServiceError, OSError) as error:
                self.trouble = str(error)
                woken = await self._pause(pause)
                pause = FIRST_PAUSE if woken else min(2 * pause, LONGEST_PAUSE)
                continue
            self.trouble, pause = "", FIRST_PAUSE
            if not waiting:
                await self._wake.wait()

    def close(self) -> None:
        """Let go of the thread, which may still wait for an answer that nobody needs."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _pause(self, seconds: float) -> bool:
        """Wait; True when something has happened meanwhile."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    async def _deliver(self, delivery: Delivery) -> None:
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(self._thread, self._hand_over, delivery)
        await self._deliveries.settle(delivery, self._database, answer.get("refused", ""))

    def _hand_over(self, delivery: Delivery) -> dict[str, Any]:
        endpoint = Endpoint.read(self._folder)
        if endpoint is None:
            raise ServiceError("no daemon answers for it yet")
        holder = FolderLock(self._folder).holder()
        if holder is not None and holder.host != socket.gethostname():
            raise ServiceError(f"it is held by {holder}, whom only that host's programs can reach")
        client = ControlClient(endpoint, current=lambda: Endpoint.read(self._folder))
        try:
            answer: dict[str, Any] = client.call("deliver", event=asdict(delivery.event))
        finally:
            client.close()
        return answer
