"""The Supervisor of one database folder: its configuration file, and starting and stopping it.

Supervisor keeps the daemon running. Its `supervisord.conf` is rendered from `supervisord.conf.in`
into the folder, with a password and a port of the folder's own, so that `supervisorctl -c` works
with it from anywhere that sees the file.
"""

from __future__ import annotations

import configparser
import errno
import http.client
import os
import random
import re
import secrets
import shlex
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from ctxlib.whole_file import write_whole

if TYPE_CHECKING:
    from daemon.settings import Settings

PROGRAM = "damnit"
"""The daemon's program name, as existing notes and scripts of users have it."""

CONFIGURATION = "supervisord.conf"

_WEB_BEGINS = "\n; The web interface"
"""What the part of the template begins with that is about the program `web`, up to its end."""
_PORTS = range(10_000, 32_768)  # below the ports that the kernel gives to outgoing connections
_ANSWER_SECONDS = 3.0
_STOP_MARGIN = 10  # seconds for the daemon to end after its jobs had their `stop_grace`


class SupervisorError(Exception):
    """Supervisor could not be configured, started or stopped; the message says what to do."""


@dataclass(frozen=True)
class Endpoint:
    """Where a folder's supervisord listens, and with which password."""

    host: str
    port: int
    password: str

    @property
    def address(self) -> str:
        """`host:port` to connect to: a wildcard host is reached by this machine's name."""
        return f"{socket.getfqdn() if self.host in ('0.0.0.0', '*') else self.host}:{self.port}"


def render(
    folder: Path, settings: Settings, command: Sequence[str], web: Sequence[str] | None = None
) -> Path:
    """Write `folder`/supervisord.conf, whose program `damnit` runs `command`; return its path.

    Its program `web` runs `web`; without that there is none.

    Password and port of an earlier file are kept; a port that another program has taken since
    is replaced. A supervisord that runs with other words about itself, such as its address or
    umask, is stopped with its daemon, as it reads them only when it starts. The file is readable
    by the owner and, unless `share_with` is `owner`, by the folder's group. Raises SupervisorError
    when `supervisor_host` is no address of this machine or `command` cannot be written into a file.
    """
    old = read_endpoint(folder)
    endpoint = _choose_endpoint(folder, old, settings.supervisor_host)
    text = _text(endpoint, settings, command, web)
    path = folder / CONFIGURATION
    if old and _about_itself(_read(path)) != _about_itself(text):
        shutdown(folder, timeout=settings.stop_grace + 60.0)
    write_whole(path, os.fsencode(text), mode=_mode(settings), durable=True)
    return path


def is_rendered(
    folder: Path, settings: Settings, command: Sequence[str], web: Sequence[str] | None = None
) -> bool:
    """Whether the file is as `render` would write it, and what runs has nothing to take up."""
    try:
        mode = (folder / CONFIGURATION).stat().st_mode & 0o777
    except FileNotFoundError:
        return False
    endpoint = read_endpoint(folder)
    return (
        endpoint is not None
        and endpoint.host == settings.supervisor_host
        and mode == _mode(settings)
        and _read(folder / CONFIGURATION) == _text(endpoint, settings, command, web)
    )


def read_endpoint(folder: Path) -> Endpoint | None:
    """The address and password in `folder`/supervisord.conf; None without such a file."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    try:
        parser.read_string(_read(folder / CONFIGURATION))
        server = parser["inet_http_server"]
        host, _, port = server["port"].rpartition(":")
        return Endpoint(host, int(port), server["password"])
    except (FileNotFoundError, KeyError, ValueError, configparser.Error):
        return None


def is_running(folder: Path) -> bool:
    """Whether the supervisord of `folder` answers at its address, taking the folder's password."""
    endpoint = read_endpoint(folder)
    return endpoint is not None and _ask(endpoint, "getState") is not None


def runs_as(folder: Path) -> int | None:
    """The process that the daemon is under the supervisord of `folder`; None when it is not."""
    endpoint = read_endpoint(folder)
    answer = _ask(endpoint, "getProcessInfo", PROGRAM) if endpoint else None
    return int(answer["pid"]) or None if answer else None


def start(folder: Path, timeout: float = 30.0) -> None:
    """Have the daemon run under the supervisord of `folder`, and wait until it does.

    A supervisord that runs already takes up what changed in its file. Raises SupervisorError with
    what Supervisor said, or with the log to read, when the daemon does not run within `timeout`
    seconds.
    """
    if is_running(folder):
        _control(folder, "update")
        if _state(folder) != "RUNNING":
            _control(folder, "start", PROGRAM)
    else:
        _run("supervisord", folder)
    deadline = time.monotonic() + timeout
    while (state := _state(folder)) != "RUNNING":
        if state == "FATAL" or time.monotonic() > deadline:
            raise SupervisorError(
                f"the daemon of {folder} does not run under Supervisor ({state}): "
                f"see the end of {folder / 'amore.log'}"
            )
        time.sleep(0.1)


def shutdown(folder: Path, timeout: float = 60.0) -> None:
    """Stop the supervisord of `folder` and its programs, and wait until it is gone.

    Does nothing when it does not run. Raises SupervisorError when it still does after `timeout`
    seconds.
    """
    if not is_running(folder):
        return
    _control(folder, "shutdown")
    deadline = time.monotonic() + timeout
    while is_running(folder):
        if time.monotonic() > deadline:
            raise SupervisorError(
                f"the supervisord of {folder} still runs after {timeout:g} s: "
                f"see {folder / 'supervisord.log'}"
            )
        time.sleep(0.1)


def _text(
    endpoint: Endpoint, settings: Settings, command: Sequence[str], web: Sequence[str] | None
) -> str:
    template = files("daemon").joinpath("supervisord.conf.in").read_text(encoding="ascii")
    if web is None:
        template = template.partition(_WEB_BEGINS)[0]
    return Template(template).substitute(
        bind=f"{endpoint.host}:{endpoint.port}",
        address=endpoint.address,
        password=endpoint.password,
        umask=f"{settings.umask:03o}",
        command=_quote_command(command),
        web=_quote_command(web or ()),
        stop_seconds=int(settings.stop_grace) + _STOP_MARGIN,
    )


def _about_itself(text: str) -> str:
    """What the file says of supervisord itself; `supervisorctl update` takes up only the rest."""
    return text.partition("[program:")[0]


def _mode(settings: Settings) -> int:
    return 0o600 if settings.share_with == "owner" else 0o640


def _read(path: Path) -> str:
    """The file's text, in which paths are as Python has them under any locale."""
    return os.fsdecode(path.read_bytes())


def _choose_endpoint(folder: Path, old: Endpoint | None, host: str) -> Endpoint:
    password = old.password if old else secrets.token_hex(16)
    if old and old.host == host and (is_running(folder) or _is_free(host, old.port)):
        return old
    for port in random.sample(_PORTS, 200):
        if _is_free(host, port):
            return Endpoint(host, port, password)
    raise SupervisorError(f"no free port was found for Supervisor on {host}")


def _is_free(host: str, port: int) -> bool:
    """Whether supervisord could listen there; raises SupervisorError when `host` is not ours."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as supervisord does
        try:
            probe.bind(("" if host == "*" else host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise SupervisorError(
                f"supervisor_host {host!r} is not an address of {socket.gethostname()} ({error}): "
                "set another with `runtable db-config supervisor_host` (127.0.0.1: this host only)"
            ) from error
    return True


def _quote_command(command: Sequence[str]) -> str:
    line = shlex.join(command)
    if "\n" in line or re.search(r"\s[;#]", line):
        raise SupervisorError(
            f"Supervisor cannot run {line!r}: a comment sign after a space, or a line break, "
            "cannot be written into its file; give the folder or environment another name"
        )
    return line.replace("%", "%%")


class _Transport(xmlrpc.client.Transport):
    """XML-RPC that gives up after a moment, where the standard one waits for ever."""

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = super().make_connection(host)
        connection.timeout = _ANSWER_SECONDS
        return connection


def _ask(endpoint: Endpoint, method: str, *arguments: str) -> dict[str, Any] | None:
    """What the supervisord at `endpoint` says to `method`: None when ours is not there.

    An empty answer is a refusal, which is all it gives while it shuts down.
    """
    url = f"http://runtable:{endpoint.password}@{endpoint.address}/RPC2"
    with xmlrpc.client.ServerProxy(url, transport=_Transport()) as server:
        try:
            answer = getattr(server.supervisor, method)(*arguments)
        except xmlrpc.client.Fault:
            return {}
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError):
            return None
    return dict(answer)


def _state(folder: Path) -> str:
    endpoint = read_endpoint(folder)
    answer = _ask(endpoint, "getProcessInfo", PROGRAM) if endpoint else None
    return str(answer["statename"]) if answer else "no answer"


def _control(folder: Path, *words: str) -> None:
    _run("supervisorctl", folder, *words)


def _run(program: str, folder: Path, *words: str) -> None:
    """Run supervisord or supervisorctl of this very environment with the folder's file."""
    command = [
        sys.executable,
        "-P",  # the folder is the user's, and may have modules with names of ours
        "-m",
        f"supervisor.{program}",
        "-c",
        str(folder / CONFIGURATION),
        *words,
    ]
    done = subprocess.run(
        command,
        # Under an ASCII locale it could not read paths that have other letters.
        env={**os.environ, "PYTHONUTF8": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="backslashreplace",
        cwd=folder,
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()
        raise SupervisorError(f"{program} {' '.join(words)} failed for {folder}: {said}")
