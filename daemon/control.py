"""The control socket: by which the command line and other programs speak to whoever holds a folder.

One ZeroMQ ROUTER socket on loopback, always CURVE-encrypted, because loopback is shared with
everybody on a node. Its address and the key that opens it lie in `control.json`, made anew at each
start and readable for those the folder is shared with. A request is one JSON object
`{"id", "op", …arguments}`; its answer `{"id", "ok": true, "result"}` or
`{"id", "ok": false, "error"}`. A stream sends `{"id", "item"}` before its answer. While an answer
takes long, `{"id", "busy": true}` says that it is being worked on. An object without "op" is an
event message of another program.
"""

import asyncio
import contextlib
import inspect
import json
import os
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from dataclasses import asdict, dataclass
from logging import Logger
from pathlib import Path
from typing import Any

import zmq
import zmq.asyncio
from zmq.auth.asyncio import AsyncioAuthenticator

BUSY_SECONDS = 1.0
SILENCE_SECONDS = 10.0
"""A server that says nothing for so long, not even that it is busy, is taken for dead."""

LOOK_MILLISECONDS = 250
"""How often a waiting client looks whether the server is still the one it asked."""

Handler = Callable[..., Awaitable[Any] | AsyncIterator[dict[str, Any]]]


class ServiceError(Exception):
    """A request could not be fulfilled; the text says why and what to do, for the one who asked."""


class GoneError(ServiceError):
    """Whoever was asked is not there any more, or does not answer."""


@dataclass(frozen=True)
class Endpoint:
    """What `control.json` holds: where the server listens, and the keys that open it."""

    address: str
    pid: int
    server_public: str
    client_public: str
    client_secret: str

    @staticmethod
    def path(folder: Path) -> Path:
        """Where the endpoint of `folder` is published."""
        return folder / "control.json"

    @classmethod
    def read(cls, folder: Path) -> "Endpoint | None":
        """The published endpoint of `folder`; None when there is none, or not a whole one."""
        try:
            return cls(**json.loads(cls.path(folder).read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def publish(self, folder: Path, mode: int) -> None:
        """Write the file with permissions `mode`, never readable for more people on the way."""
        temporary = folder / f".control.{self.pid}.json"
        temporary.unlink(missing_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as file:
            json.dump(asdict(self), file)
            os.fchmod(file.fileno(), mode)
        temporary.rename(self.path(folder))


class ControlServer:
    """Answers requests with handlers, each in its own task, until closed."""

    def __init__(self, folder: Path, handlers: Mapping[str, Handler], *, log: Logger) -> None:
        """Serve `folder` with `handlers` by name of the operation.

        A handler takes the request's arguments by name and is a coroutine, or an asynchronous
        generator for a stream; its ServiceError is told to the one who asked. The handler
        "message" gets the text of event messages as `payload`.
        """
        self._folder = folder
        self._handlers = handlers
        self._log = log
        self._tasks: set[asyncio.Task[None]] = set()
        self._endpoint: Endpoint | None = None

    async def start(self, mode: int = 0o600) -> None:
        """Bind to a free port of loopback and publish the endpoint with file permissions `mode`."""
        server_public, server_secret = zmq.curve_keypair()
        client_public, client_secret = zmq.curve_keypair()
        self._context = zmq.asyncio.Context()
        self._authenticator = AsyncioAuthenticator(self._context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback("*", _OneKey(client_public))
        socket = self._context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, server_secret)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, server_public)
        socket.setsockopt(zmq.LINGER, 500)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # so that a stream ends when its reader is gone
        socket.setsockopt(zmq.MAXMSGSIZE, 1 << 20)
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        self._socket = socket
        self._endpoint = Endpoint(
            f"tcp://127.0.0.1:{port}",
            os.getpid(),
            server_public.decode(),
            client_public.decode(),
            client_secret.decode(),
        )
        self._endpoint.publish(self._folder, mode)
        self._spawn(self._receive())

    async def close(self) -> None:
        """Stop answering, end what is under way and take the endpoint back."""
        if self._endpoint is None:
            return
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if Endpoint.read(self._folder) == self._endpoint:
            Endpoint.path(self._folder).unlink(missing_ok=True)
        self._socket.close()
        self._authenticator.stop()
        self._context.term()
        self._endpoint = None

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _receive(self) -> None:
        while True:
            frames = await self._socket.recv_multipart()
            self._spawn(self._answer(frames[:-1], frames[-1]))

    async def _answer(self, route: list[bytes], body: bytes) -> None:
        """Answer one request; `route` is the sender's address (with a REQ socket's empty frame)."""
        lock = asyncio.Lock()

        async def send(**reply: Any) -> None:
            async with lock:
                await self._socket.send_multipart([*route, json.dumps(reply).encode()])

        number, operation, arguments = _parse(body)
        busy = asyncio.create_task(_say_busy(send, number))
        try:
            result = await self._handle(
                operation, arguments, lambda item: send(id=number, item=item)
            )
            reply = {"id": number, "ok": True, "result": result}
        except ServiceError as error:
            reply = {"id": number, "ok": False, "error": str(error)}
        except zmq.ZMQError:
            return  # the reader of a stream has gone
        except Exception as error:  # noqa: BLE001 - one bad request must not end the service
            self._log.exception("request %r failed", operation)
            reply = {
                "id": number,
                "ok": False,
                "error": f"{type(error).__name__}: {error} (see amore.log)",
            }
        finally:
            busy.cancel()
        with contextlib.suppress(zmq.ZMQError):  # the one who asked has gone
            await send(**reply)

    async def _handle(
        self,
        operation: str,
        arguments: dict[str, Any],
        emit: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> Any:
        handler = self._handlers.get(operation)
        if handler is None:
            raise ServiceError(
                f"unknown operation {operation!r}: is the daemon older than the command?"
            )
        try:
            inspect.signature(handler).bind(**arguments)
        except TypeError as error:
            raise ServiceError(f"operation {operation!r}: {error}") from error
        outcome = handler(**arguments)
        if isinstance(outcome, AsyncIterator):
            async for item in outcome:
                await emit(item)
            return None
        return await outcome


class _OneKey:
    """Lets in whoever has the one client key (zmq's credentials provider)."""

    def __init__(self, public: bytes) -> None:
        self._public = public

    def callback(self, domain: str, key: bytes) -> bool:  # noqa: ARG002 - zmq's signature
        """Whether `key` may come in."""
        return key == self._public


def _parse(body: bytes) -> tuple[Any, str, dict[str, Any]]:
    """The request's id, operation and arguments; what is no request is an event message."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):  # no JSON, or nested too deeply to be read
        request = None
    if not isinstance(request, dict) or "op" not in request:
        return None, "message", {"payload": body.decode(errors="replace")}
    arguments = {str(key): value for key, value in request.items() if key not in ("id", "op")}
    return request.get("id"), str(request["op"]), arguments


async def _say_busy(send: Callable[..., Awaitable[None]], number: Any) -> None:
    while number is not None:  # event messages of other programs get their answer and nothing else
        await asyncio.sleep(BUSY_SECONDS)
        try:
            await send(id=number, busy=True)
        except zmq.ZMQError:
            return  # the one who asked has gone; the work goes on


class ControlClient:
    """Speaks to the server of a folder; for programs that block, such as commands."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        silence: float = SILENCE_SECONDS,
        current: Callable[[], Endpoint | None] | None = None,
    ) -> None:
        """Connect to `endpoint`; one silent for `silence` seconds is taken for dead.

        `current` gives the endpoint that is published now, when that can tell of an end earlier.
        """
        self._endpoint = endpoint
        self._silence = silence
        self._current = current
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.CURVE_SERVERKEY, endpoint.server_public.encode())
        self._socket.setsockopt(zmq.CURVE_PUBLICKEY, endpoint.client_public.encode())
        self._socket.setsockopt(zmq.CURVE_SECRETKEY, endpoint.client_secret.encode())
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(endpoint.address)

    def close(self) -> None:
        """Close the connection; what is under way in the server goes on there."""
        self._socket.close()
        self._context.term()

    def call(self, op: str, **arguments: Any) -> Any:
        """The result of operation `op`; ServiceError has the server's words, or its silence."""
        with contextlib.closing(self._replies(op, arguments)) as replies:
            for reply in replies:
                if "ok" in reply:
                    return reply["result"]
        raise ServiceError(f"operation {op!r} ended without an answer")

    def stream(self, op: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """The items of operation `op` as they come; raises ServiceError as `call` does."""
        with contextlib.closing(self._replies(op, arguments)) as replies:
            for reply in replies:
                if "item" in reply:
                    yield reply["item"]

    def _replies(self, op: str, arguments: dict[str, Any]) -> Generator[dict[str, Any], None, None]:
        number = uuid.uuid4().hex
        self._socket.send(json.dumps({"id": number, "op": op, **arguments}).encode())
        while True:
            self._wait()
            reply = json.loads(self._socket.recv())
            if reply.get("id") != number:
                continue  # the rest of an earlier stream that was left before its end
            if reply.get("ok") is False:
                raise ServiceError(reply["error"])
            yield reply
            if "ok" in reply:
                return

    def _wait(self) -> None:
        """Wait for a reply; raises GoneError when none can come."""
        deadline = time.monotonic() + self._silence
        while not self._socket.poll(min(int(self._silence * 1000), LOOK_MILLISECONDS)):
            if self._current is not None and self._current() != self._endpoint:
                raise GoneError("the daemon has ended or was restarted meanwhile; try again")
            if time.monotonic() > deadline:
                raise GoneError(
                    f"no answer for {self._silence:g} s: the daemon may hang or have just ended; "
                    "see amore.log and try again"
                )
