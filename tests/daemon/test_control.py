"""The control socket: requests, streams, errors, and who is let in."""

import asyncio
import json
import logging
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import zmq

from daemon.control import ControlClient, Endpoint, Handler, ServiceError
from daemon.control_server import ControlServer

LOG = logging.getLogger("test")


async def double(number: int) -> int:
    return 2 * number


async def count(upto: int) -> AsyncIterator[dict[str, Any]]:
    for number in range(upto):
        yield {"number": number}


async def refuse() -> None:
    raise ServiceError("run 7 is not there; the newest is 6")


async def crash() -> None:
    raise ZeroDivisionError("inside")


async def slow() -> str:
    await asyncio.sleep(1.5)
    return "done"


async def message(payload: str) -> str:
    return payload.upper()


HANDLERS: dict[str, Handler] = {
    "double": double,
    "count": count,
    "refuse": refuse,
    "crash": crash,
    "slow": slow,
    "message": message,
}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ControlServer]:
    server = ControlServer(tmp_path, HANDLERS, log=LOG)
    await server.start()
    yield server
    await server.close()


async def ask(folder: Path, use: Callable[[ControlClient], Any], silence: float = 5) -> Any:
    """Use a blocking client beside the running loop."""

    def work() -> Any:
        endpoint = Endpoint.read(folder)
        assert endpoint is not None
        client = ControlClient(endpoint, silence=silence)
        try:
            return use(client)
        finally:
            client.close()

    return await asyncio.to_thread(work)


async def test_a_call_is_answered(server: ControlServer, tmp_path: Path) -> None:
    assert await ask(tmp_path, lambda client: client.call("double", number=21)) == 42


async def test_a_stream_gives_its_items_in_order(server: ControlServer, tmp_path: Path) -> None:
    items = await ask(tmp_path, lambda client: list(client.stream("count", upto=100)))
    assert [item["number"] for item in items] == list(range(100))


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ("refuse", "run 7 is not there; the newest is 6"),
        ("crash", "ZeroDivisionError: inside"),
        ("nonsense", "unknown operation 'nonsense'"),
    ],
)
async def test_errors_reach_the_one_who_asked(
    server: ControlServer, tmp_path: Path, operation: str, words: str
) -> None:
    with pytest.raises(ServiceError, match=words):
        await ask(tmp_path, lambda client: client.call(operation))
    assert await ask(tmp_path, lambda client: client.call("double", number=1)) == 2


async def test_wrong_arguments_are_named(server: ControlServer, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"required argument: .number"):
        await ask(tmp_path, lambda client: client.call("double", numbre=1))


async def test_a_long_answer_is_waited_for(server: ControlServer, tmp_path: Path) -> None:
    assert await ask(tmp_path, lambda client: client.call("slow"), silence=1.3) == "done"


@pytest.mark.parametrize("sent", [b"not json", b"[" * 500_000])
async def test_an_event_message_needs_no_envelope(
    server: ControlServer, tmp_path: Path, sent: bytes
) -> None:
    def send(client: ControlClient) -> Any:
        endpoint = Endpoint.read(tmp_path)
        assert endpoint is not None
        with zmq.Context() as context, context.socket(zmq.REQ) as socket:
            socket.curve_serverkey = endpoint.server_public.encode()
            socket.curve_publickey = endpoint.client_public.encode()
            socket.curve_secretkey = endpoint.client_secret.encode()
            socket.connect(endpoint.address)
            socket.send(sent)
            assert socket.poll(5000)
            return json.loads(socket.recv())

    result = sent.decode().upper()
    assert await ask(tmp_path, send) == {"id": None, "ok": True, "result": result}


async def test_a_stranger_gets_no_answer(server: ControlServer, tmp_path: Path) -> None:
    endpoint = Endpoint.read(tmp_path)
    assert endpoint is not None
    public, secret = (key.decode() for key in zmq.curve_keypair())
    stranger = Endpoint(endpoint.address, 0, endpoint.server_public, public, secret)

    def knock() -> Any:
        client = ControlClient(stranger, silence=0.5)
        try:
            return client.call("double", number=1)
        finally:
            client.close()

    with pytest.raises(ServiceError, match=r"no answer for 0\.5 s"):
        await asyncio.to_thread(knock)


async def test_the_endpoint_is_private_and_goes_with_the_server(tmp_path: Path) -> None:
    server = ControlServer(tmp_path, HANDLERS, log=LOG)
    await server.start(0o640)
    mode = stat.S_IMODE(Endpoint.path(tmp_path).stat().st_mode)
    assert mode == 0o640
    await server.close()
    assert Endpoint.read(tmp_path) is None


async def test_a_closed_servers_file_of_another_is_left(tmp_path: Path) -> None:
    first, second = (ControlServer(tmp_path, HANDLERS, log=LOG) for _ in range(2))
    await first.start()
    await second.start()
    await first.close()
    assert await ask(tmp_path, lambda client: client.call("double", number=3)) == 6
    await second.close()


async def test_a_message_that_is_too_large_is_told_so(
    server: ControlServer, tmp_path: Path
) -> None:
    def call(client: ControlClient) -> Any:
        return client.call("double", number="x" * (3 << 20))

    with pytest.raises(ServiceError, match="at most 1048576 are taken"):
        await ask(tmp_path, call)
