"""The side of the control socket that answers: what is sent is described in `daemon.control`."""

import asyncio
import contextlib
import inspect
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from logging import Logger
from pathlib import Path
from typing import Any

import zmq
import zmq.asyncio
from zmq.auth.asyncio import AsyncioAuthenticator

from daemon.control import Endpoint, Handler, ServiceError

LARGEST = 1 << 20
"""Bytes of a request at most."""
HEARD = 16 << 20
"""Bytes of one that is still heard, and refused; the connection of a larger one is cut."""
BUSY_SECONDS = 1.0
"""How often one who waits for an answer is told that it is being worked on."""


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
        """Bind to a free port of loopback and publish the endpoint with file permissions `mode`.

        From then on `receiving` is the task that hears requests: nobody is heard once it has ended.
        """
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
        socket.setsockopt(zmq.MAXMSGSIZE, HEARD)
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
        self.receiving = self._spawn(self._receive())

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

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

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
        if len(body) > LARGEST:
            error = f"a message of {len(body)} bytes; at most {LARGEST} are taken"
            self._log.warning("refused: %s", error)
            with contextlib.suppress(zmq.ZMQError):  # the one who asked has gone
                await send(id=number, ok=False, error=error, code="too_large")
            return
        busy = asyncio.create_task(_say_busy(send, number))
        try:
            result = await self._handle(
                operation, arguments, lambda item: send(id=number, item=item)
            )
            reply = {"id": number, "ok": True, "result": result}
        except ServiceError as error:
            reply = {"id": number, "ok": False, "error": str(error), "code": error.code}
        except zmq.ZMQError:
            return  # the reader of a stream has gone
        except Exception as error:  # noqa: BLE001 - one bad request must not end the service
            self._log.exception("request %r failed", operation)
            reply = {
                "id": number,
                "ok": False,
                "error": f"{type(error).__name__}: {error} (see amore.log)",
                "code": "internal",
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
