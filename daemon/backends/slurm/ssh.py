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
from daemon.backends.slurm.scheduler import NoAnswer, NotAsked, Refused
from daemon.backends.slurm.transport import CALL_SECONDS, Output

CONNECT_SECONDS = 15.0
"""How long the server may take to greet and to let us in."""
PAUSES = (1.0, 5.0, 15.0, 60.0, 300.0)
"""Between two tries to connect, in seconds; the last one for all that follow."""

_KNOWN_HOSTS = ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
_PORT = 22
_KEEPALIVE_SECONDS = 15.0
_AT_ONCE = 5
"""Programs at once: servers allow ten over one connection, unless told otherwise."""
_TIMED_OUT, _NO_SUCH_PROGRAM, _KILLED = 124, 127, 128
"""Exit codes of `timeout`: the last one and the number of a signal for a program it has ended."""


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
        self._where = config.host or "the machine of the beamtime"
        self._failures = 0
        self._next_try = 0.0
        self._problem = ""

    async def run(self, command: Sequence[str], stdin: bytes = b"") -> Output:
        """Run a program there; see `Transport`."""
        async with self._slots:
            connection = await self._connect()
            # What hangs is ended there, too: servers allow only so many programs at once. The login
            # shell takes the line apart, into these very words.
            line = shlex.join(["timeout", "-k", "5", f"{self._seconds:g}", *command])
            try:
                async with asyncio.timeout(self._seconds):
                    process = await connection.create_process(line, encoding=None)
                    try:
                        out, err = await process.communicate(stdin)
                    finally:
                        process.close()
            except TimeoutError:
                words = f"{command[0]} has not ended within {self._seconds:g} s"
                raise NoAnswer(f"{words} on {self._where}") from None
            except asyncssh.ChannelOpenError as error:
                # Programs that cannot be ended are in the way: they stay with this connection.
                self._connection = None
                connection.close()
                words = f"{self._where} has not let {command[0]} begin on the connection"
                raise NoAnswer(f"{words}: {error.reason}; making another one") from error
            except (OSError, asyncssh.Error) as error:
                raise NoAnswer(f"the connection to {self._where} is lost: {error}") from error
        code, number = process.exit_status, process.exit_signal
        if code is None:
            raise NoAnswer(f"the connection to {self._where} was lost during {command[0]}")
        if number is not None or code == _TIMED_OUT or code > _KILLED:
            raise NoAnswer(f"{command[0]} was killed on {self._where}")
        if code == _NO_SUCH_PROGRAM:
            words = f"{command[0]} is not on PATH on {self._where}"
            raise Refused(f"{words}: name a machine of the cluster as host")
        return Output(code, _text(out), _text(err))

    async def close(self) -> None:
        """Close the connection; what was submitted goes on."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            await connection.wait_closed()

    async def _connect(self) -> asyncssh.SSHClientConnection:
        """The connection, made if there is none. Raises NotAsked, at once during a pause."""
        async with self._connecting:
            if self._connection is not None and not self._connection.is_closed():
                return self._connection
            if self._clock() < self._next_try:
                raise NotAsked(self._problem)
            config = self._config
            try:
                config = await asyncio.to_thread(config.resolved)
                self._where = str(config.host)
                async with asyncio.timeout(CONNECT_SECONDS):
                    self._connection = await asyncssh.connect(**_options(config))
            except (OSError, ValueError, asyncssh.Error, ConfigurationError) as error:
                pause = self._pauses[min(self._failures, len(self._pauses) - 1)]
                self._failures += 1
                self._next_try = self._clock() + pause
                self._problem = await asyncio.to_thread(_words, error, config)
                raise NotAsked(self._problem) from error
            self._failures, self._problem = 0, ""
            return self._connection


def _options(config: SlurmSshConfig) -> dict[str, Any]:
    """What to connect with."""
    alone = config.use_additional_ssh_options
    options: dict[str, Any] = {
        "host": config.host,
        # A file that is not there knows nobody: it must not turn the check off.
        "known_hosts": _known_hosts(config) or b"",
        "password_auth": False,
        "kbdint_auth": False,
        # A key with a passphrase may be in an agent.
        "ignore_encrypted": True,
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


def _known_hosts(config: SlurmSshConfig) -> list[str]:
    """The files with hosts' keys that there are."""
    named = [config.known_hosts] if config.known_hosts else _KNOWN_HOSTS
    return [str(path) for name in named if (path := Path(name).expanduser()).is_file()]


def _words(error: Exception, config: SlurmSshConfig) -> str:
    """Why there is no connection, and the mend."""
    where, port = config.host, config.port
    if isinstance(error, ConfigurationError):
        return "; ".join(error.problems)
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return _of_host_key(config)
    if isinstance(error, asyncssh.PermissionDenied):
        return _of_login(config)
    if isinstance(error, asyncssh.KeyImportError):
        return f"key_file {config.key_file} is no private key that can be used: {error}"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be read: {error.strerror}"
    if isinstance(error, TimeoutError):
        return f"{where} port {port} has not answered within {CONNECT_SECONDS:g} s"
    return f"{where} port {port} cannot be reached: {error}"


def _of_host_key(config: SlurmSshConfig) -> str:
    host, port = str(config.host), config.port
    file = config.known_hosts or _KNOWN_HOSTS[0]
    now = f"`ssh-keyscan -p {port} {host}` prints the one that it has now"
    files = _known_hosts(config)
    # A host has its name alone for the usual port.
    named = host if port == _PORT else f"[{host}]:{port}"
    at = None if port == _PORT else port
    if not files or not any(asyncssh.match_known_hosts(files, host, "", at)[:2]):
        return (
            f"no key of {named} is known in {config.known_hosts or ' or '.join(_KNOWN_HOSTS)}: "
            f"{now}; add that to {file} once its administrators have confirmed it"
        )
    return (
        f"the key of {named} is not the one in {' or '.join(files)}: it was made anew, or another "
        f"machine answers; ask its administrators: {now}, `ssh-keygen -R '{named}' -f {file}` "
        "takes the old one away"
    )


def _of_login(config: SlurmSshConfig) -> str:
    user, key = config.user or getpass.getuser(), config.key_file
    denied = f"{config.host} does not let {user} in with {key or 'the usual keys'}"
    if key is None:
        return f"{denied}, nor those of an agent: a public key has to be known there, or key_file"
    if not asyncssh.load_keypairs(Path(key).expanduser(), ignore_encrypted=True):
        return (
            f"{denied}: it has a passphrase, and no agent has it: use a key without one, or "
            f"`ssh-add {key}` where the daemon is started"
        )
    return f"{denied}: add what is in {key}.pub to ~/.ssh/authorized_keys of {user} there"


def _text(output: Any) -> str:
    return bytes(output or b"").decode(errors="replace")
