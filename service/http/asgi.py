"""ASGI messages, and what all responses have in common (https://asgi.readthedocs.io/en/latest/specs/www.html)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from itertools import count
from typing import Any, NamedTuple

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON = b"application/json"
CLOSE = (b"connection", b"close")
# https://www.w3.org/TR/trace-context/: hexadecimal and of one length, so it cannot smuggle anything into a log.
TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class Response(NamedTuple):
    """A whole response."""

    status: int
    body: bytes
    headers: tuple[Header, ...] = ()
    content_type: bytes = JSON


Handler = Callable[[Scope, Receive], Awaitable[Response]]


async def send_response(send: Send, response: Response, common: list[Header]) -> None:
    """Send a response; `common` are the headers that every response has."""
    headers = [
        (b"content-type", response.content_type),
        (b"content-length", str(len(response.body)).encode()),
        *response.headers,
        *common,
    ]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


class RequestIds:
    """Gives each request an id: its trace's, else a new one."""

    def __init__(self) -> None:
        self._ids = map(f"{secrets.token_hex(4)}-{{:x}}".format, count(1))

    def of(self, headers: list[Header]) -> str:
        """The id of a request with these headers."""
        for name, value in headers:
            if name == b"traceparent" and (trace := TRACEPARENT.fullmatch(value)):
                return trace[1].decode()
        return next(self._ids)
