"""The program `web`: listens, says at which address, and leaves that in the folder."""

import asyncio
import fcntl
import json
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import uvicorn

from ctxlib.whole_file import write_whole
from daemon.web.access import Access
from daemon.web.app import host_names, make_app
from daemon.web.link import Link
from daemon.web.tokens import Tokens

LOG = logging.getLogger("runtable.web")
ADDRESS = "web.json"
"""Where `runtable gui` finds the address, {"url"}; it has the token, so only the owner reads it."""
LOCK = "web.lock"
RETRY_SECONDS = 1.0
END_SECONDS = 5
"""What requests under way get when this is told to end."""


class WebError(Exception):
    """It cannot be served as asked for; str() says why and what to do."""


def serve(
    folder: Path,
    *,
    host: str,
    port: int,
    names: Collection[str] = (),
    say: Callable[[str], None],
    patient: bool = False,
) -> None:
    """Serve `folder` until SIGTERM or SIGINT, at `port`, or at a free one for 0.

    `say` gets the address. `names` are more names by which browsers may call it. While another one
    serves the folder, a `patient` one waits. Raises WebError.
    """
    with _alone(folder, patient=patient), _listening(host, port) as listener:
        number = listener.getsockname()[1]
        own = secrets.token_urlsafe(32)
        shown = socket.getfqdn() if host in ("0.0.0.0", "::") else host
        url = f"http://{f'[{shown}]' if ':' in shown else shown}:{number}/?token={own}"
        link = Link(folder)
        tokens = Tokens(folder)
        access = Access(tokens, own, f"runtable-{number}")
        app = make_app(link, access, tokens, host_names(host, names, _own_names()))
        with _published(folder, url):
            say(url)
            asyncio.run(_run(app, listener))


async def _run(app: object, listener: socket.socket) -> None:
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]  # an application as FastAPI makes it
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=END_SECONDS,
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.end)
    await server.serve([listener])


class _Server(uvicorn.Server):
    """Ends when it is told to, and is not ended by the same signal once more."""

    def end(self) -> None:
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def _alone(folder: Path, *, patient: bool) -> Iterator[None]:
    """Be the only one that serves `folder` on this machine, by the kernel's lock."""
    fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not patient:
                    raise WebError(
                        f"{folder} is served already: `runtable gui {folder}` opens the page"
                    ) from None
            time.sleep(RETRY_SECONDS)
        yield
    finally:
        os.close(fd)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, answers go out at once: asyncio waits with what may be no TCP.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except (OSError, OverflowError) as error:
            raise WebError(
                f"cannot listen on {host}, port {port}: {error}; choose others with --host and "
                "--port, or the settings web_host and web_port (port 0: one that is free)"
            ) from error
        listener.listen(128)
        yield listener


@contextmanager
def _published(folder: Path, url: str) -> Iterator[None]:
    path = folder / ADDRESS
    content = json.dumps({"url": url}).encode() + b"\n"
    write_whole(path, content, mode=0o600)
    try:
        yield
    finally:
        with suppress(OSError):
            if path.read_bytes() == content:
                path.unlink()


def _own_names() -> set[str]:
    return {socket.gethostname(), socket.getfqdn()}
