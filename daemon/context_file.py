"""The folder's context file: checked in its own Python whenever it changes, never loaded here."""

import asyncio
from collections.abc import Awaitable, Callable
from logging import Logger
from pathlib import Path
from typing import Any

from daemon.child import ask

TIMEOUT = 300.0
"""Seconds that a context file's imports may take."""
WATCH_SECONDS = 1.0
RETRY_SECONDS = 30.0
"""After how long a file that could not be checked is tried again."""
_MISSING = "missing"


async def check(
    context: Path, library: Path, python: str, *, timeout: float = TIMEOUT
) -> dict[str, Any]:
    """What `context` defines and what is wrong with it, as `python -m ctxlib.context` tells it.

    `library` is where ctxlib is imported from. Returns {"variables": […], "problems": […]}, or
    {"broken": […]} when the file cannot be executed, or its process ends or hangs.
    """

    def command(result: str) -> list[str]:
        return [python, "-m", "ctxlib.context", str(context), result]

    try:
        answer, code, output = await ask(command, library, timeout)
    except TimeoutError:
        return _broken(f"{context.name} did not load within {timeout:g} s")
    except OSError as error:
        return _broken(f"{python} does not run ({error}): set context_python to a Python")
    if answer is None:
        return _broken(f"loading {context.name} ended its process (exit code {code}): {output}")
    loaded: dict[str, Any] = answer
    return loaded


def _broken(message: str) -> dict[str, Any]:
    return {"broken": [{"message": message, "line": None, "variable": None, "mend": ""}]}


class ContextFile:
    """What is known of one context file, kept up with its changes."""

    def __init__(
        self,
        path: Path,
        *,
        library: Callable[[], Path],
        python: Callable[[], str],
        register: Callable[[list[dict[str, Any]]], Awaitable[None]],
        log: Logger,
    ) -> None:
        """Know `path`; `register` is told the variables of each version that can be executed."""
        self._path = path
        self._library = library
        self._python = python
        self._register = register
        self._log = log
        self._signature: object = None
        self._known: dict[str, Any] = {"variables": [], "problems": []}
        self._reading = asyncio.Lock()
        self._unregistered: list[dict[str, Any]] | None = None
        self._registering = asyncio.Lock()

    async def state(self) -> dict[str, Any]:
        """{"ok", "problems"} of the file as it is now; reads it when it has changed.

        Does not wait for the table, which another program may hold locked.
        """
        async with self._reading:
            if self._signature is None or self._signature != await self._now():
                await self._read()
        broken = self._known.get("broken")
        return {"ok": broken is None, "problems": broken or self._known["problems"]}

    async def read(self) -> dict[str, Any]:
        """Read the file anew: {"variables", "problems", "broken": bool}."""
        async with self._reading:
            await self._read()
        await self._register_new()
        broken = self._known.get("broken")
        return {
            "variables": self._known.get("variables", []),
            "problems": broken or self._known["problems"],
            "broken": broken is not None,
        }

    @property
    def variables(self) -> list[dict[str, Any]] | None:
        """What the file says of its variables; None when it cannot be executed."""
        found: list[dict[str, Any]] | None = self._known.get("variables")
        return found

    async def described(self) -> dict[str, Any]:
        """Read the file and its modules anew, and tell nobody: what `check` says of them."""
        async with self._reading:
            await self._read()
            return self._known

    @property
    def parameters(self) -> list[dict[str, Any]] | None:
        """What the file says of its parameters; None while it is not known, or broken."""
        found: list[dict[str, Any]] | None = self._known.get("parameters")
        return found

    async def watch(self) -> None:
        """Read the file whenever it has changed, until cancelled; problems go to the log."""
        while True:
            pause = WATCH_SECONDS
            try:
                await self.state()
                await self._register_new()
            except Exception:  # noqa: BLE001 - a full disk is no reason to end the daemon
                self._log.exception("%s cannot be checked; trying again", self._path)
                pause = RETRY_SECONDS
            await asyncio.sleep(pause)

    async def _read(self) -> None:
        signature, self._signature = await self._now(), None
        name = self._path.name
        if signature == _MISSING:
            self._known = _broken(f"{name} is missing in {self._path.parent}")
        else:
            self._known = await check(self._path, self._library(), self._python())
        broken = self._known.get("broken")
        for problem in broken or self._known["problems"]:
            line = f":{problem['line']}" if problem.get("line") else ""
            variable = f" {problem['variable']}:" if problem.get("variable") else ""
            mend = f" ({problem['mend']})" if problem.get("mend") else ""
            self._log.warning("%s%s:%s %s%s", name, line, variable, problem["message"], mend)
        if broken is None:
            self._unregistered = self._known["variables"]
            self._log.info("%s: %d variables", name, len(self._known["variables"]))
        else:
            self._log.error("%s cannot be executed; events wait until it can", name)
        self._signature = signature

    async def _register_new(self) -> None:
        async with self._registering:
            variables = self._unregistered
            if variables is not None:
                await self._register(variables)
                if self._unregistered is variables:
                    self._unregistered = None

    async def _now(self) -> object:
        try:
            stat = await asyncio.to_thread(self._path.stat)
        except FileNotFoundError:
            return _MISSING
        return (stat.st_mtime_ns, stat.st_size, stat.st_ino, self._python())
