"""uvicorn, with bounds that it does not have: on the head of a request, on slow senders, and an orderly end."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.app import App
from service.settings import Settings

if TYPE_CHECKING:
    from service.arriving import Arriving

HEAD_LIMIT_BYTES = 64_000
# After SIGTERM: whoever was about to ask on a connection that is kept is still answered, and told to close it.
DRAIN_SECONDS = 1.0
# What is left of the grace for uvicorn's own end, when all that could be answered is.
UVICORN_SECONDS = 1


class Connection(HttpToolsProtocol):
    """A connection that is cut when a request's head is too long, or a request takes too long to arrive."""

    # When the request that is arriving began, by the loop's clock; None between requests.
    began: float | None = None
    # How much of its head there is; None when the head is whole.
    head_bytes: int | None = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Whoever connects has to send something."""
        self.began = self.loop.time()
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Count a head's bytes: the parser keeps as many as are sent."""
        if self.head_bytes is not None:
            self.head_bytes += len(data)
        super().data_received(data)
        if self.head_bytes is not None and self.head_bytes > HEAD_LIMIT_BYTES and not self.transport.is_closing():
            self._refuse(431, f"The head of a request has at most {HEAD_LIMIT_BYTES} bytes.")

    def on_message_begin(self) -> None:
        """A request begins to arrive."""
        self.began = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head is whole; the application bounds its body."""
        self.head_bytes = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """It is whole."""
        self.began, self.head_bytes = None, 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's own words, which are no JSON
        """Refuse what is not HTTP."""
        self._refuse(400, "This is no HTTP request.")

    def cut_if_late(self, now: float, seconds: float) -> None:
        """End the request that is arriving, if it began more than `seconds` ago."""
        if self.began is None or now - self.began < seconds or self.transport.is_closing():
            return
        in_head, answering = self.head_bytes is not None, self.cycle is not None and self.cycle.response_started
        # Nothing was sent at all; or it was answered before it was whole, and the rest is only thrown away; or the
        # answer to the request before this one is on its way.
        if self.head_bytes == 0 or (answering and not (in_head and self.cycle.response_complete)):
            self.transport.close()
        else:
            self._refuse(408, "The request did not arrive in time.")

    def _refuse(self, status: int, sentence: str) -> None:
        body = b'{"error":"%s"}' % sentence.encode()
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()


class Server(uvicorn.Server):
    """A server of one application."""

    def __init__(self, app: App | Arriving, settings: Settings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host="0.0.0.0",  # noqa: S104 - inside a container every other address would be unreachable
                port=settings.listen_port,
                loop="uvloop",
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                # Nobody says here whose word on a caller's address to take.
                proxy_headers=False,
                timeout_graceful_shutdown=UVICORN_SECONDS,
            )
        )
        self._app = app
        self._body_seconds = settings.body_seconds
        self._grace_seconds = settings.grace_seconds

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: cut who is late, once a second."""
        if counter % 10 == 0:
            self._cut_late(self._body_seconds)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new connection, answer who is still there, then stop as uvicorn does."""
        self._app.draining = True
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        began = loop.time()
        while self.server_state.connections and loop.time() - began < self._grace_seconds - UVICORN_SECONDS:
            if loop.time() - began > DRAIN_SECONDS:
                for connection in list(self.server_state.connections):
                    # Closes it where nothing is under way, else after the answer.
                    connection.shutdown()
            await asyncio.sleep(0.05)
        self._cut_late(0)
        await super().shutdown(sockets)

    def _cut_late(self, seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        connections: list[Any] = list(self.server_state.connections)
        for connection in connections:
            connection.cut_if_late(now, seconds)
