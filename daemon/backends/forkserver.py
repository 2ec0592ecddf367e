"""The daemon's end of one fork server: starts the process and speaks with it."""

import asyncio
import contextlib
import json
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctxlib import processes
from daemon.backends import ContextBroken
from daemon.backends.server_process import ServerKey, ServerProcess, broken
from daemon.sandbox import LEAVE_PROCESSES

STOPPED_SECONDS = 3.0
"""A server that is stopped for so long while it is offered a job is given up."""
_STOPPED_LOOKS = 3

LONGEST_LINE = 2**26
"""Bytes of one message: a context file's error can be as long as a printed array."""


class KilledLoading(ContextBroken):
    """The process was killed while it loaded the context, perhaps through no fault of that."""


@dataclass(frozen=True)
class Answer:
    """What comes of an attempt that was offered.

    `kind` is `accepted`, `stale`, `claimed`, `rejected`, `gone` when the process has ended, or
    `stopped` when a signal holds it; `errno` is that of the OSError that it was rejected for.
    """

    kind: str
    reason: str = ""
    errno: int | None = None

    def error(self, what: str) -> Exception:
        """The exception for `what` was rejected: an OSError may pass by itself."""
        text = f"{what}: {self.reason}"
        return ValueError(text) if self.errno is None else OSError(self.errno, text)


class ForkServer:
    """One fork server process.

    `usable` tells whether it takes jobs, `busy` whether it has some, `last_used` when it was last
    given one (monotonic seconds); `listening` is done once the process is gone. `on_end(server,
    handles)` is called with attempts that have ended or that the process was lost with. After
    `idle_seconds` without a job it is retired.
    """

    def __init__(
        self,
        key: ServerKey,
        *,
        folder: Path,
        library: Path,
        wake: socket.socket,
        terminal: bool,
        idle_seconds: Callable[[], float],
        on_end: Callable[["ForkServer", list[str]], None],
    ) -> None:
        self.key = key
        self.usable = False
        self.note = ""
        self.last_used = time.monotonic()
        self._process = ServerProcess(
            key, folder=folder, library=library, wake=wake, terminal=terminal
        )
        self._idle_seconds = idle_seconds
        self._on_end = on_end
        self._attempts: set[str] = set()
        self._answers: dict[str, asyncio.Future[Answer]] = {}
        self._idle: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """Whether it has jobs, or is being given one."""
        return bool(self._attempts or self._answers)

    async def launch(self, load_limit: float) -> None:
        """Start the process and wait until it has loaded the context.

        Raises ContextBroken when it cannot be executed, or takes more than `load_limit` seconds.
        KilledLoading, which is one of these, when an operator or the kernel may have ended it.
        """
        self._loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        try:
            self._process.start(theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._reader, self._writer = await asyncio.open_unix_connection(
            sock=ours, limit=LONGEST_LINE
        )
        try:
            async with asyncio.timeout(load_limit):
                line = await self._read_line()
        except TimeoutError:
            await self._abandon()
            raise broken(
                f"the context file was not loaded within {load_limit:g} s",
                "take what takes long out of its top level, into a variable",
            ) from None
        except asyncio.CancelledError:
            await self._abandon()
            raise
        await self._greet(line)

    async def _greet(self, line: bytes) -> None:
        message = json.loads(line) if line.endswith(b"\n") else {}
        if "ready" in message:
            self.pid: int = message["ready"]["pid"]
            await self._refuse_if_unseen(self.pid)
            self.note = message["ready"]["note"]
            self.usable = True
            self.listening = self._loop.create_task(self._listen())
            return  # it idles from its first job on, which it was started for
        await self._hang_up()
        if "broken" in message:
            raise ContextBroken(message["broken"])
        code = self.key.interpreter.signal_of(await self._process.exit)
        how = f"signal {signal.strsignal(-code)}" if code < 0 else f"exit code {code}"
        trouble = broken(
            f"loading the context file ended the whole Python process with {how}",
            f"see {self._process.log}",
        )
        raise KilledLoading(trouble.problems) if -code in processes.FOREIGN_SIGNALS else trouble

    async def _refuse_if_unseen(self, pid: int) -> None:
        """Raise ContextBroken when a sandbox keeps us from seeing its processes by their number."""
        main = self._process.pid
        if pid == main or pid in await asyncio.to_thread(processes.descendants, main):
            return
        await self._abandon()
        raise broken("the daemon cannot watch the processes of the sandbox", LEAVE_PROCESSES)

    async def start(self, handle: str) -> Answer:
        """Offer an attempt; return what the server, or its end, answers.

        Only one that is stopped is sure to hang: another may be importing what the job needs.
        """
        if not self.usable:
            return Answer("gone")
        self.last_used = time.monotonic()
        if self._idle is not None:
            self._idle.cancel()
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._answers[handle] = answer
        self.send({"start": handle})
        stopped = 0
        while stopped < _STOPPED_LOOKS:
            await asyncio.wait([answer], timeout=STOPPED_SECONDS / _STOPPED_LOOKS)
            if answer.done():
                return answer.result()
            process = processes.read(self.pid)
            stopped = stopped + 1 if process is not None and process.stopped else 0
        return Answer("stopped")

    def send(self, message: Mapping[str, object]) -> None:
        """Send a message; one that nobody would hear is dropped."""
        if self.usable and not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    def retire(self) -> None:
        """Give it no more jobs; it exits after its last one, and still says how that ends."""
        self.usable = False
        if self._idle is not None:
            self._idle.cancel()
        if not self._writer.is_closing():
            # Refused once the process is gone, which is as good.
            with contextlib.suppress(OSError):
                self._writer.write_eof()

    def give_up(self) -> None:
        """End the process, which is stopped, unless it has jobs.

        Their runners may well be at work; who follows them ends the process if that lasts.
        """
        if not self._attempts:
            self.kill()

    def kill(self) -> None:
        """End the process, which has not answered: its jobs are lost."""
        self._process.kill()

    async def close(self) -> None:
        """Let go of it without listening any more; its jobs go on and it exits after them."""
        self.usable = False
        if self._idle is not None:
            self._idle.cancel()
        self.listening.cancel()
        await self._hang_up()

    async def _hang_up(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _listen(self) -> None:
        while (line := await self._read_line()).endswith(b"\n"):
            self._hear(json.loads(line))
        self._lose()
        await self._hang_up()

    async def _read_line(self) -> bytes:
        try:
            return await self._reader.readline()
        except ConnectionError:
            # It was killed before it had read all that was sent.
            return b""

    def _hear(self, message: dict[str, Any]) -> None:
        kind = next(iter(message))
        handle = message[kind]
        if kind == "ended":
            self._attempts.discard(handle)
            self._start_idling()
            self._on_end(self, [handle])
            return
        if kind == "accepted":
            self._attempts.add(handle)
        answer = self._answers.pop(handle)
        if not answer.cancelled():
            answer.set_result(Answer(kind, message.get("reason", ""), message.get("errno")))

    def _lose(self) -> None:
        """Take note that the process is gone."""
        self.usable = False
        if self._idle is not None:
            self._idle.cancel()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result(Answer("gone"))
        self._answers.clear()
        lost, self._attempts = sorted(self._attempts), set()
        if lost:
            self._on_end(self, lost)

    def _start_idling(self) -> None:
        if not self.busy and self.usable:
            self._idle = self._loop.call_later(self._idle_seconds(), self.retire)

    async def _abandon(self) -> None:
        """End the process while it loads the context, and what the context has started."""
        self._process.end_with_all()
        await self._hang_up()
