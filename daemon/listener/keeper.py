"""Keeps the daemon of one database up, in a process of its own.

One that ends is started again, after a pause that grows as long as it does not keep. A database
that is not there, or that somebody else serves, is looked at again and again.
"""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from logging import Logger
from pathlib import Path
from typing import IO, Any

from daemon.listener import DATABASE
from daemon.lock import FolderLock
from daemon.sandbox import FROM_LISTENER

LOOK_SECONDS = 1.0
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
STEADY_SECONDS = 60.0
"""A daemon that ran for so long is started again after the first pause."""
KILL_SECONDS = 8.0
"""Beyond `stop_grace`, what a daemon gets to leave its folder whole. Supervisor waits longer."""


class Keeper:
    """Keeps up the daemon of the database in `folder`.

    `sandbox` and `stop_grace` (seconds) are asked when they matter; `came` is called when it may be
    served now, by a daemon that was started here or somebody else's.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sandbox: Callable[[], str | None],
        stop_grace: Callable[[], float],
        came: Callable[[], None],
        log: Logger,
    ) -> None:
        self._folder = folder
        self._sandbox = sandbox
        self._stop_grace = stop_grace
        self._came = came
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._since = 0.0
        self._words = "is being started"
        self._told_to_end = False

    def describe(self) -> dict[str, Any]:
        """{"state": words, "pid", "since"}: the last two while a daemon of ours runs."""
        running = self._process is not None
        return {
            "state": self._words,
            "pid": self._process.pid if self._process is not None else None,
            "since": self._since if running else None,
        }

    async def run(self) -> None:
        """Keep it up until cancelled; ends the daemon then."""
        pause = FIRST_PAUSE
        while True:
            obstacle = await asyncio.to_thread(self._obstacle)
            if obstacle is not None:
                self._say(obstacle)
                await asyncio.sleep(LOOK_SECONDS)
                continue
            began = time.monotonic()
            said = await self._serve()
            if self._told_to_end:
                continue  # by us: it is to be started anew, or its folder has gone
            if time.monotonic() - began > STEADY_SECONDS:
                pause = FIRST_PAUSE
            self._say(f"{said}; it is started again after {pause:g} s")
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def restart(self) -> None:
        """Have the daemon start anew, with what has changed for it; jobs are taken up again."""
        self._told_to_end = True
        self._signal(signal.SIGTERM)

    def _say(self, words: str) -> None:
        if words != self._words:
            self._words = words
            self._log.warning("%s: %s", self._folder, words)
            self._came()

    def _obstacle(self) -> str | None:
        """Why no daemon is to be started now, in words."""
        if not self._folder.is_dir():
            return "there is no such folder"
        if not (self._folder / DATABASE).exists():
            return f"there is no database ({DATABASE} is missing)"
        lock = FolderLock(self._folder)
        try:
            if lock.acquire("command", time.time()):
                return None
        except OSError as error:
            return f"it cannot be served: {error.filename}: {error.strerror}"
        finally:
            lock.release()
        holder = lock.holder()
        if holder is None or holder.role != "daemon":
            return None  # a command hands over to the daemon that asks for it
        return f"left to {holder}"

    async def _serve(self) -> str:
        """Run the daemon to its end; how that came, in words."""
        self._told_to_end = False
        with tempfile.TemporaryFile() as output:
            process = await self._start(output)
            self._process, self._since = process, time.time()
            self._words = "served"
            self._log.info("%s: served by process %d", self._folder, process.pid)
            self._came()
            try:
                await self._watch(process)
            finally:
                await asyncio.shield(self._end(process))
                self._process = None
            return _how_it_ended(process.returncode, output)

    async def _start(self, output: IO[bytes]) -> asyncio.subprocess.Process:
        # -P: it runs in the folder, which is the user's and may have modules with names of ours.
        return await asyncio.create_subprocess_exec(
            *[sys.executable, "-P", "-m", "daemon.listener.child"],
            *[str(self._folder), str(os.getpid())],
            cwd=self._folder,
            env=self._environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for the listener, which ends them
        )

    def _environment(self) -> Mapping[str, str]:
        # So marked, it logs into the database's own log alone.
        environment = {**os.environ, "SUPERVISOR_ENABLED": "1"}
        environment.pop(FROM_LISTENER, None)
        sandbox = self._sandbox()
        return environment if sandbox is None else {**environment, FROM_LISTENER: sandbox}

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Wait for the end of the daemon, or of its folder."""
        before = await asyncio.to_thread(_identity, self._folder)
        ended = asyncio.create_task(process.wait())
        try:
            while not (await asyncio.wait([ended], timeout=LOOK_SECONDS))[0]:
                if await asyncio.to_thread(_identity, self._folder) != before:
                    self._told_to_end = True
                    return
                if self._told_to_end:
                    return
        finally:
            ended.cancel()

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """Have the daemon end; what it has begun is taken up by the next one."""
        if process.returncode is not None:
            return
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(self._stop_grace() + KILL_SECONDS):
                await process.wait()
        except TimeoutError:
            self._log.warning("%s: its daemon does not end and is killed", self._folder)
            self._signal(signal.SIGKILL)
            await process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _how_it_ended(code: int | None, output: IO[bytes]) -> str:
    how = f"signal {signal.strsignal(-code)}" if code is not None and code < 0 else f"code {code}"
    output.seek(0)
    last = output.read().decode(errors="replace").strip().splitlines()[-1:]
    return f"its daemon ended with {how}: {last[0] if last else 'see amore.log there'}"
