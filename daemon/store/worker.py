"""A helper process that answers requests one at a time: JSON lines over two pipes of its own.

What may crash, or takes much memory, is done there: it costs the request, not the daemon. The
process is started when it is needed, ends when it has been idle, and never outlives its parent.
"""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ctxlib import processes

log = logging.getLogger(__name__)

LONGEST_ANSWER = 2**26  # bytes


class WorkerDied(RuntimeError):
    """The process died while it worked on a request; says how."""


class Worker:
    """The process of `python -m MODULE`, for which `serve` runs; requests wait for their turn."""

    def __init__(self, module: str, *, idle_seconds: float) -> None:
        self._module = module
        self._idle_seconds = idle_seconds
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._rest: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Pid of the process while there is one."""
        return None if self._process is None else self._process.pid

    async def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and return the answer.

        When the process dies over it, another one gets it too; raises WorkerDied when that one
        dies as well.
        """
        async with self._turn:
            self._wake_up()
            try:
                try:
                    return await self._exchange(request)
                except WorkerDied as death:
                    log.warning("%s %s; starting another", self._module, death)
                    return await self._exchange(request)
            finally:
                loop = asyncio.get_running_loop()
                self._rest = loop.call_later(self._idle_seconds, self._begin_rest)

    async def close(self) -> None:
        """End the process, after the request that it is working on."""
        async with self._turn:
            self._wake_up()
            await self._end()

    async def _exchange(self, request: Mapping[str, Any]) -> dict[str, Any]:
        process = self._process or await self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            await process.stdin.drain()
            line = await process.stdout.readline()
        except ConnectionError:
            line = b""
        except BaseException:
            # Whoever asked is gone: the answer must not go to the next one.
            process.kill()
            await self._end()
            raise
        if not line.endswith(b"\n"):
            await self._end()
            raise WorkerDied(f"died over a request: {_how(process.returncode)}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def _start(self) -> asyncio.subprocess.Process:
        # -P: the current folder is the user's, and may have modules with names of ours.
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", self._module, str(os.getpid())),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LONGEST_ANSWER,
        )
        return self._process

    def _wake_up(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None

    def _begin_rest(self) -> None:
        self._ending = asyncio.get_running_loop().create_task(self._end_if_idle())

    async def _end_if_idle(self) -> None:
        if not self._turn.locked():
            async with self._turn:
                await self._end()

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def serve(handle: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
    """Be the process of a Worker: answer requests with `handle` until the parent is gone.

    What `handle` raises is the parent's business: it gets {"error": text} as the answer, with
    the "errno" and "strerror" of what the system refused. The standard output belongs to the
    protocol alone; what libraries print goes to standard error.
    """
    processes.die_with_parent(int(sys.argv[1]))
    # A Ctrl-C in the terminal is for the parent, which then ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with os.fdopen(os.dup(0), "rb") as requests, os.fdopen(os.dup(1), "wb") as answers:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        for line in requests:
            try:
                answer = handle(json.loads(line))
            except Exception as error:  # noqa: BLE001 - it is told to the parent
                answer = {"error": f"{type(error).__name__}: {error}"}
                if isinstance(error, OSError):
                    answer |= {"errno": error.errno, "strerror": error.strerror}
            answers.write(json.dumps(answer).encode() + b"\n")
            answers.flush()


def _how(returncode: int | None) -> str:
    if returncode is None:
        return "it stopped answering"
    if returncode >= 0:
        return f"it ended with exit code {returncode}"
    return f"it was killed by {signal.Signals(-returncode).name}"
