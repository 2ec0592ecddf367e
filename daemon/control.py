"""The control socket: by which the command line and other programs speak to whoever holds a folder.

What is here is what a command loads to ask; the side that answers is `daemon.control_server`.

One ZeroMQ ROUTER socket on loopback, always CURVE-encrypted, because loopback is shared with
everybody on a node. Its address and the key that opens it lie in `control.json`, made anew at each
start and readable for those the folder is shared with. A request is one JSON object
`{"id", "op", …arguments}`; its answer `{"id", "ok": true, "result"}` or
`{"id", "ok": false, "error", "code"}`. A stream sends `{"id", "item"}` before its answer. While an
answer takes long, `{"id", "busy": true}` says that it is being worked on. An object without "op" is
an event message of another program.
"""

import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import zmq

from ctxlib.whole_file import remove_leftovers, write_whole

SILENCE_SECONDS = 10.0
"""A server that says nothing for so long, not even that it is busy, is taken for dead."""

LOOK_MILLISECONDS = 250
"""How often a waiting client looks whether the server is still the one it asked."""

Handler = Callable[..., Awaitable[Any] | AsyncIterator[dict[str, Any]]]


BAD_CONFIGURATION = "bad_configuration"
"""The code of what is refused because of the backend that was asked for, or of its limits."""


class ServiceError(Exception):
    """A request could not be fulfilled; the text says why and what to do, for the one who asked.

    `code` says the same for programs.
    """

    def __init__(self, text: object, code: str = "refused") -> None:
        """`text` is for people, as for any exception."""
        super().__init__(text)
        self.code = code


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
        path = self.path(folder)
        remove_leftovers(path)  # nobody else writes it: who publishes holds the folder's lock
        write_whole(path, json.dumps(asdict(self)).encode(), mode=mode)


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
                raise ServiceError(reply["error"], reply.get("code", "refused"))
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
