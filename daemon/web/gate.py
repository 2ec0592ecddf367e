"""What stands before the HTTP service: whose page may ask, under which name, and how much.

A page of another site can make a browser send requests here, and a name that somebody else owns
can lead here. So the host must be a name of this machine, or an address, which nobody can have lead
elsewhere; and what changes something must come from a page of ours, or from no page at all.
"""

import asyncio
import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daemon.web.errors import Refusal, answer

BODY_LIMIT = 128 << 10
"""Bytes of a body at most: what the daemon takes in one piece, however it is escaped."""
BODY_SECONDS = 30.0
"""Within which a body has to be here."""
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
EVERY_ANSWER = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


class Gate:
    """Lets a request through to `app`, or answers it itself. It comes before everything else."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        """`hosts` are the names by which this may be called, without ports."""
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope)
            if scope["type"] == "http":
                receive = await _bounded(scope, receive)
        except Refusal as refusal:
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": refusal.code})
                return
            response = answer(refusal.status, refusal.code, refusal.detail, {"Connection": "close"})
            await response(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in EVERY_ANSWER.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        name = _name(host)
        if name not in self._hosts and not _is_address(name):
            raise Refusal(
                421,
                "wrong_host",
                f"this is not called {host!r}; it answers to {', '.join(sorted(self._hosts))} "
                "(option --name of `runtable web` adds others)",
            )
        if scope["type"] == "http" and scope["method"] in SAFE:
            return
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise Refusal(403, "wrong_origin", f"a page of {origin} may not do this")
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise Refusal(403, "wrong_origin", "a page of another site may not do this")


def _name(host: str) -> str:
    """The host in a Host header, in lower case, without the port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _bounded(scope: Scope, receive: Receive) -> Receive:
    """Take in the whole body, unless it is too large or too slow; what then gives it again."""
    headers = Headers(scope=scope)
    stated = headers.get("content-length", "0")
    too_large = Refusal(413, "too_large", f"a body may have at most {BODY_LIMIT} bytes")
    if not stated.isascii() or not stated.isdigit() or int(stated) > BODY_LIMIT:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    break  # the one who asked has gone
                body += message.get("body", b"")
                if len(body) > BODY_LIMIT:
                    raise too_large
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        raise Refusal(408, "too_slow", f"no body within {BODY_SECONDS:g} s") from None
    whole: Message | None = {"type": "http.request", "body": bytes(body), "more_body": False}

    async def again() -> Message:
        nonlocal whole
        if whole is None:
            return await receive()
        message, whole = whole, None
        return message

    return again
