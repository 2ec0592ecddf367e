"""The programs of Slurm on another machine, over one SSH connection that is kept.

The server's key is always checked. A connection that is lost is made anew at the next call; after
one that could not be made there is a pause, which grows, so that nobody is locked out for it.
"""

import asyncio
import getpass
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import asyncssh

from daemon.backends.configurations.errors import ConfigurationError
from daemon.backends.configurations.slurm_ssh import SlurmSshConfig
from daemon.backends.slurm.scheduler import NoAnswer, Refused
from daemon.backends.slurm.transport import CALL_SECONDS, Output

CONNECT_SECONDS = 15.0
"""How long the server may take to greet and to let us in."""
PAUSES = (1.0, 5.0, 15.0, 60.0, 300.0)
"""Between two tries to connect, in seconds; the last one for all that follow."""

_KNOWN_HOSTS = ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
_KEEPALIVE_SECONDS = 15.0
_AT_ONCE = 5
"""Programs at once: servers allow ten over one connection, unless told otherwise."""
_NO_SUCH_PROGRAM = 127


class Ssh:
    """The machine that a configuration names."""

    def __init__(
        self,
        config: SlurmSshConfig,
        *,
        seconds: float = CALL_SECONDS,
        pauses: Sequence[float] = PAUSES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Programs are given up after `seconds`; nothing is connected before the first one."""
        self._config = config
        self._seconds = seconds
        self._pauses = pauses
        self._clock = clock
        self._connection: asyncssh.SSHClientConnection | None = None
        self._connecting = asyncio.Lock()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._failures = 0
        self._next_try = 0.0
        self._problem = ""

    async def run(self, command: Sequence[str], stdin: bytes = b"") -> Output:
        """Run a program there; see `Transport`."""
        async with self._slots:
            connection = await self._connect()
            try:
                async with asyncio.timeout(self._seconds):
                    # The login shell there takes the line apart, into these very words.
                    done = await connection.run(shlex.join(command), input=stdin, encoding=None)
            except TimeoutError:
                words = f"{command[0]} has not ended within {self._seconds:g} s"
                raise NoAnswer(f"{words} on {self._where()}") from None
            except (OSError, asyncssh.Error) as error:
                raise NoAnswer(f"the connection to {self._where()} is lost: {error}") from error
        if done.exit_status is None or done.exit_signal is not None:
            # Its end was never told, or somebody killed it.
            raise NoAnswer(f"the connection to {self._where()} was lost during {command[0]}")
        out, err = _text(done.stdout), _text(done.stderr)
        if done.exit_status == _NO_SUCH_PROGRAM:
            words = f"{command[0]} is not on PATH on {self._where()}"
            raise Refused(f"{words}: name a machine of the cluster as host")
        return Output(done.exit_status, out, err)

    async def close(self) -> None:
        """Close the connection; what was submitted goes on."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            await connection.wait_closed()

    async def _connect(self) -> asyncssh.SSHClientConnection:
        """The connection, made if there is none. Raises NoAnswer, at once during a pause."""
        async with self._connecting:
            if self._connection is not None and not self._connection.is_closed():
                return self._connection
            if self._clock() < self._next_try:
                raise NoAnswer(self._problem)
            try:
                options = await asyncio.to_thread(_options, self._config)
                async with asyncio.timeout(CONNECT_SECONDS):
                    self._connection = await asyncssh.connect(**options)
            except (OSError, ValueError, asyncssh.Error, ConfigurationError) as error:
                pause = self._pauses[min(self._failures, len(self._pauses) - 1)]
                self._failures += 1
                self._next_try = self._clock() + pause
                self._problem = self._words(error)
                raise NoAnswer(self._problem) from error
            self._failures, self._problem = 0, ""
            return self._connection

    def _where(self) -> str:
        return self._config.host or "the machine of the beamtime"

    def _words(self, error: Exception) -> str:
        """What is wrong, and the mend."""
        where, port = self._where(), self._config.port
        if isinstance(error, ConfigurationError):
            return "; ".join(error.problems)
        if isinstance(error, asyncssh.HostKeyNotVerifiable):
            files = self._config.known_hosts or _KNOWN_HOSTS[0]
            return (
                f"the key of {where} is not the one in {files}, or there is none: ask its "
                f"administrators; `ssh-keyscan -p {port} {where}` prints the one that it has now"
            )
        if isinstance(error, asyncssh.PermissionDenied):
            user = self._config.user or getpass.getuser()
            key = self._config.key_file or "the usual keys"
            return (
                f"{where} does not let {user} in with {key}: the public key has to be known there"
            )
        if isinstance(error, asyncssh.KeyEncryptionError):
            return f"{self._config.key_file}: nobody is there to type its passphrase ({error})"
        if isinstance(error, TimeoutError):
            return f"{where} port {port} has not answered within {CONNECT_SECONDS:g} s"
        return f"{where} port {port} cannot be reached: {error}"


def _options(config: SlurmSshConfig) -> dict[str, Any]:
    """What to connect with. Raises ConfigurationError for a beamtime that cannot be looked up."""
    config = config.resolved()
    alone = config.use_additional_ssh_options
    known = [config.known_hosts] if config.known_hosts else _KNOWN_HOSTS
    paths = [Path(path).expanduser() for path in known]
    options: dict[str, Any] = {
        "host": config.host,
        # A file that is not there knows nobody: it must not turn the check off.
        "known_hosts": [str(path) for path in paths if path.is_file()] or b"",
        "password_auth": False,
        "kbdint_auth": False,
        "keepalive_interval": _KEEPALIVE_SECONDS,
        "connect_timeout": CONNECT_SECONDS,
        "login_timeout": CONNECT_SECONDS,
    }
    if alone:
        options["config"] = None
    if alone or "port" in config.model_fields_set:
        options["port"] = config.port
    if config.user is not None:
        options["username"] = config.user
    if config.key_file is not None:
        options["client_keys"] = [str(Path(config.key_file).expanduser())]
    return options


def _text(output: Any) -> str:
    return bytes(output or b"").decode(errors="replace")
