"""The folder's context file: checked in its own Python whenever it changes, never loaded here."""

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from logging import Logger
from pathlib import Path
from typing import Any

from daemon.child import ask
from daemon.context_look import Look, Stamp, known_stamp
from daemon.sandbox import Interpreter

TIMEOUT = 300.0
"""Seconds that a context file's imports may take."""
WATCH_SECONDS = 1.0
RETRY_SECONDS = 30.0
"""After how long a file that could not be checked is tried again."""
PATIENCE = 3.0
"""Seconds that one who asks for the state waits for a check: most files load within them."""
AGAIN_SECONDS = 5.0
"""Who asks for the state of a broken file has it checked again, if this long has passed: what it
needs may have been installed, which no file that is known here tells."""


async def check(
    context: Path,
    library: Path,
    interpreter: Interpreter,
    backends: Mapping[str, str] | None = None,
    *,
    timeout: float = TIMEOUT,
) -> dict[str, Any]:
    """What `context` defines and what is wrong with it, as `python -m ctxlib.context` tells it.

    `library` is where ctxlib is imported from, `backends` are those that variables may name, as
    `ctxlib.graph.Graph` takes them. Returns {"variables": […], "problems": […]}, or
    {"broken": […]} when the file cannot be executed, or its process ends or hangs.
    """

    def command(result: str) -> list[str]:
        names = json.dumps(backends)
        return interpreter.command("-m", "ctxlib.context", str(context), result, names)

    try:
        answer, code, output = await ask(command, library, timeout)
    except TimeoutError:
        return _broken(f"{context.name} did not load within {timeout:g} s")
    except OSError as error:
        return _broken(*interpreter.not_started(error))
    if answer is None:
        return _broken(f"loading {context.name} ended its process (exit code {code}): {output}")
    loaded: dict[str, Any] = answer
    return loaded


def _broken(message: str, mend: str = "") -> dict[str, Any]:
    return {"broken": [{"message": message, "line": None, "variable": None, "mend": mend}]}


class ContextFile:
    """What is known of one context file, kept up with its changes."""

    def __init__(
        self,
        path: Path,
        *,
        library: Callable[[], Path],
        interpreter: Callable[[], Interpreter],
        register: Callable[[list[dict[str, Any]]], Awaitable[None]],
        mended: Callable[[], None],
        log: Logger,
        clock: Callable[[], float] = time.monotonic,
        backends: Callable[[], dict[str, str] | None] = lambda: None,
    ) -> None:
        """Know `path`; `register` is told the variables of each version that can be executed.

        `mended` is called when a file that could not be executed can be; `backends` gives
        those that variables may name, as `ctxlib.graph.Graph` takes them.
        """
        self._backends = backends
        self._path = path
        self._library = library
        self._interpreter = interpreter
        self._register = register
        self._mended = mended
        self._log = log
        self._clock = clock
        self._known: dict[str, Any] = {"problems": []}
        self._look: Look | None = None
        self._files: dict[str, Stamp] = {}
        self._holds = False
        self._doubted = False
        self._checked = -math.inf
        self._check: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()
        self._unregistered: list[dict[str, Any]] | None = None
        self._registering = asyncio.Lock()

    async def state(self, patience: float = PATIENCE) -> dict[str, Any]:
        """{"ok", "problems", "loading"} of the file as it is now, checked when it has changed.

        Waits `patience` seconds for that: then `loading` is true, and the rest about an earlier
        version. Does not wait for the table, which another program may hold locked.
        """
        await self._settle(patience, again=self._broken is not None)
        problems = self._broken or self._known.get("problems", [])
        return {"ok": self._broken is None, "problems": problems, "loading": not self._holds}

    async def read(self) -> dict[str, Any]:
        """Read the file anew: {"variables", "problems", "broken": bool}."""
        found = await self.described()
        await self._register_new()
        broken = found.get("broken")
        return {
            "variables": found.get("variables", []),
            "problems": broken or found["problems"],
            "broken": broken is not None,
        }

    async def described(self) -> dict[str, Any]:
        """Read the file and its modules anew, and tell nobody: what `check` says of them."""
        self._doubted = True
        await _end(self._check)
        await self._settle(math.inf)
        return self._known

    @property
    def variables(self) -> list[dict[str, Any]] | None:
        """What the file says of its variables; None when it cannot be executed."""
        found: list[dict[str, Any]] | None = self._known.get("variables")
        return found

    @property
    def parameters(self) -> list[dict[str, Any]] | None:
        """What the file says of its parameters; None while it is not known, or broken."""
        found: list[dict[str, Any]] | None = self._known.get("parameters")
        return found

    def hear(self, *, loads: bool) -> None:
        """Somebody else has loaded the file, or could not: if that is news, it is checked again."""
        if self._holds and loads != (self._broken is None):
            self._doubted, self._holds = True, False

    async def watch(self) -> None:
        """Read the file whenever it has changed, until cancelled; problems go to the log."""
        while True:
            pause = WATCH_SECONDS
            try:
                await self._settle(WATCH_SECONDS)
                await self._register_new()
            except Exception:  # noqa: BLE001 - a full disk is no reason to end the daemon
                self._log.exception("%s cannot be checked; trying again", self._path)
                pause = RETRY_SECONDS
            await asyncio.sleep(pause)

    async def close(self) -> None:
        """End a check that is under way."""
        await _end(self._check)

    @property
    def _broken(self) -> list[dict[str, Any]] | None:
        found: list[dict[str, Any]] | None = self._known.get("broken")
        return found

    async def _settle(self, patience: float, *, again: bool = False) -> None:
        """Wait until what is known holds, at most `patience` seconds; raises what a check does."""
        deadline = self._clock() + patience
        while (check := await self._due(again)) is not None:
            left = deadline - self._clock()
            if left <= 0:
                return
            await asyncio.wait([check], timeout=min(left, WATCH_SECONDS))
            if check.done() and not check.cancelled():
                # One is enough: a file that changes whenever it is loaded would never be known.
                check.result()
                return

    async def _due(self, again: bool) -> "asyncio.Task[None] | None":
        """The check that is under way, begun if it is needed; None when what is known holds.

        One whose file has changed is given up: it may never end, and nobody needs it.
        """
        async with self._looking:
            look = await asyncio.to_thread(self._look_now)
            if self._check is not None and not self._check.done():
                if self._look is not None and look.same_files(self._look):
                    return self._check
                await _end(self._check)
                self._holds = False
            elif self._is_known(look):
                if not again or self._clock() - self._checked < AGAIN_SECONDS:
                    return None
            else:
                self._holds = False
            self._look, self._doubted = look, False
            self._check = asyncio.create_task(self._run_check(look))
            return self._check

    def _look_now(self) -> Look:
        return Look.at(self._path, self._interpreter(), self._files, self._backends())

    def _is_known(self, look: Look) -> bool:
        """Whether the last check was of what is there now."""
        if not self._holds or self._doubted or self._look is None or look.files != self._files:
            return False
        if self._broken is not None and look.beside != self._look.beside:
            return False  # it may be what was missing
        before = self._look
        if look.backends != before.backends:
            return False
        return (look.interpreter, look.context) == (before.interpreter, before.context)

    async def _run_check(self, look: Look) -> None:
        name = self._path.name
        if look.context is None:
            found = _broken(f"{name} is missing in {self._path.parent}")
        else:
            try:
                library = await asyncio.to_thread(self._library)
            except OSError as error:
                found = _broken(f"the copy of ctxlib that {name} needs is gone: {error}")
            else:
                found = await check(self._path, library, look.interpreter, look.backends)
        files = {name: known_stamp(known) for name, known in found.get("files", {}).items()}
        was_broken, news = self._broken is not None, found != self._known
        self._known, self._files, self._holds = found, files, True
        self._checked = self._clock()
        if news:
            self._tell()
        if was_broken and self._broken is None:
            self._mended()

    def _tell(self) -> None:
        """Put what is known into the log, and note what is to be registered."""
        name = self._path.name
        for problem in self._broken or self._known["problems"]:
            line = f":{problem['line']}" if problem.get("line") else ""
            variable = f" {problem['variable']}:" if problem.get("variable") else ""
            mend = f" ({problem['mend']})" if problem.get("mend") else ""
            self._log.warning("%s%s:%s %s%s", name, line, variable, problem["message"], mend)
        if self._broken is None:
            self._unregistered = self._known["variables"]
            self._log.info("%s: %d variables", name, len(self._known["variables"]))
        else:
            self._log.error("%s cannot be executed; events wait until it can", name)

    async def _register_new(self) -> None:
        async with self._registering:
            variables = self._unregistered
            if variables is not None:
                await self._register(variables)
                if self._unregistered is variables:
                    self._unregistered = None


async def _end(task: "asyncio.Task[None] | None") -> None:
    if task is not None and not task.done():
        task.cancel()
        await asyncio.wait([task])
