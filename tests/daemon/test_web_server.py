"""The program `web`: where it listens, and that answers are not held back."""

import socket

import pytest

from daemon.web.server import WebError, _listening


def test_answers_go_out_at_once() -> None:
    """asyncio switches waiting off for what it sees to be TCP alone: 40 ms for each answer."""
    with _listening("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_a_port_that_is_taken_is_named() -> None:
    with _listening("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(WebError, match=f"port {port}.*--port"), _listening("127.0.0.1", port):
            pass
    with pytest.raises(WebError, match="--host"), _listening("192.0.2.1", 0):
        pass
