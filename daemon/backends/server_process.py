"""The process of one fork server: how it is started, and how it ends."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path

from ctxlib import processes
from ctxlib.alone import ENVIRONMENT
from daemon.backends import ContextBroken
from daemon.sandbox import Interpreter


@dataclass(frozen=True)
class ServerKey:
    """What one fork server is for: jobs of this context in this Python, `fork` or `fresh`.

    `alone` is the only attempt that it is for, if it may be one that takes its server with it.
    `environment` are the variables that it has beyond the daemon's; they may be secret.
    """

    context: Path
    interpreter: Interpreter
    mode: str
    alone: str = ""
    environment: tuple[tuple[str, str], ...] = field(default=(), repr=False)


class ServerProcess:
    """The process of the fork server that `key` tells; `log` is what it prints into.

    `exit` is done with its exit code once it has ended.
    """

    def __init__(
        self, key: ServerKey, *, folder: Path, library: Path, wake: socket.socket, terminal: bool
    ) -> None:
        self.log = folder / "process_logs" / "context.out"
        self._key = key
        self._library = library
        self._wake = wake
        self._terminal = terminal

    def start(self, channel: socket.socket) -> None:
        """Start it, with its end of the channel. Raises ContextBroken when that cannot be."""
        self._loop = asyncio.get_running_loop()
        self.exit: asyncio.Future[int] = self._loop.create_future()
        try:
            self._process = self._spawn(channel)
        except OSError as error:
            if str(error.filename).startswith(str(self.log.parent)):
                raise broken(
                    f"{error.filename} cannot be written: {error.strerror}",
                    "let the daemon write there",
                ) from error
            raise broken(*self._key.interpreter.not_started(error)) from error
        threading.Thread(target=self._wait_for_exit, daemon=True).start()

    @property
    def pid(self) -> int:
        """Its number; in a sandbox, that of the sandbox."""
        return self._process.pid

    def kill(self) -> None:
        """End the process alone."""
        self._process.kill()

    def end_with_all(self) -> None:
        """End it and what it has started."""
        started = processes.descendants(self.pid)
        processes.kill_until_gone(lambda: processes.session_members(self.pid))
        processes.signal_all(started, signal.SIGKILL)

    def _spawn(self, channel: socket.socket) -> "subprocess.Popen[bytes]":
        command = self._key.interpreter.command("-m", "ctxlib.forkserver")
        command += ["--context", str(self._key.context)]
        command += ["--channel", str(channel.fileno()), "--wake", str(self._wake.fileno())]
        command += ["--fresh"] if self._key.mode == "fresh" else []
        command += ["--terminal"] if self._terminal else []
        environment = {**os.environ, **ENVIRONMENT, **dict(self._key.environment)}
        # It would keep the working directory, where ctxlib is, from being looked at.
        environment.pop("PYTHONSAFEPATH", None)
        with contextlib.ExitStack() as stack:
            output = None
            if not self._terminal:
                self.log.parent.mkdir(parents=True, exist_ok=True)
                output = stack.enter_context(self.log.open("ab"))
            return subprocess.Popen(
                command,
                cwd=self._library,
                env=environment,
                stdin=None if self._terminal else subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(channel.fileno(), self._wake.fileno()),
                start_new_session=True,
            )

    def _wait_for_exit(self) -> None:
        code = self._process.wait()
        # The loop may be closed by then, as the process may outlive it.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._note_exit, code)

    def _note_exit(self, code: int) -> None:
        if not self.exit.done():
            self.exit.set_result(code)


def broken(message: str, mend: str) -> ContextBroken:
    """The error of a context file that cannot be loaded, with its mend."""
    return ContextBroken([{"message": message, "line": None, "variable": None, "mend": mend}])
