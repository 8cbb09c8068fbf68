"""uvicorn with the bounds that it lacks: on heads, trailers, connections and unread responses; and a clean shutdown."""

from __future__ import annotations

import asyncio
import socket
import struct
from functools import partial
from typing import TYPE_CHECKING, Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.settings import Settings

if TYPE_CHECKING:
    from service.http.app import App
    from service.http.startup import StartupApp

MAX_HEAD_BYTES = 64_000
# What may arrive after a head beside the body: trailer fields, and the extensions of chunks.
MAX_TRAILER_BYTES = 8_000
END_OF_HEAD = b"\r\n\r\n"
# How much the kernel may buffer for a connection, in each direction. It doubles this, for its own records.
# It also bounds what a sender has in flight: a body of 1 MB takes thirty round trips.
SOCKET_BUFFER_BYTES = 32 * 1024
# A response with more unsent bytes than this counts as unread.
WRITE_BUFFER_BYTES = 16 * 1024
# After SIGTERM, requests on kept connections are still answered for so long, with `connection: close`.
DRAIN_SECONDS = 1.0
# The part of the grace period that is left for uvicorn's own shutdown.
UVICORN_SECONDS = 1


class Connections:
    """The state that the connections of one server share."""

    def __init__(self, settings: Settings) -> None:
        self.limit = settings.max_connections
        self.max_unsent_bytes = settings.max_buffer_bytes
        self.unsent_seconds = settings.request_timeout_seconds
        # Connections that are idle or still send a request, the oldest first.
        self.waiting: dict[BoundedHttpProtocol, None] = {}
        # Connections that do not read their response, the oldest first, and how many bytes of it are left.
        self.unsent_bytes: dict[BoundedHttpProtocol, int] = {}

    def make_room(self) -> bool:
        """Abort the connection that has read no response or sent no request for longest; False if there is none."""
        oldest = next(iter(self.unsent_bytes), None) or next(iter(self.waiting), None)
        if oldest is not None:
            oldest.abort()
        return oldest is not None

    def bound_unsent(self) -> None:
        """Abort the connections that have not read for longest, while the unsent bytes of all are over the limit."""
        while len(self.unsent_bytes) > 1 and sum(self.unsent_bytes.values()) > self.max_unsent_bytes:
            next(iter(self.unsent_bytes)).abort()


class ResponseWriter:
    """The transport that uvicorn writes a response to. It sends the head and the first part of the body in one call."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Send `data`, or keep it if it is a head."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(STATUS_LINE[100]):
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Send a head that has no body."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        """Close the connection when everything is sent."""
        self.flush()
        self._transport.close()


class BoundedHttpProtocol(HttpToolsProtocol):
    """A connection that reads one request at a time, and none while a response is unread.

    The parser cannot stop between two requests. So it gets what arrived in pieces that end where a request may end.
    """

    # When the current request began to arrive, by the loop's clock; None between requests.
    began_at: float | None = None
    # How much of its head has arrived; None if the head is complete.
    head_bytes: int | None = 0

    def __init__(self, shared: Connections, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own arguments
        super().__init__(**kwargs)
        self._shared = shared
        # What arrived and is not parsed yet, from `_offset` on.
        self._unread, self._offset = b"", 0
        self._in_message = False
        # How much of the body is missing; None if it is chunked.
        self._body_left: int | None = 0
        # The last bytes of the piece before: the end of a head may be split across pieces.
        self._tail = b""
        self._trailer_bytes = self._bytes_since_body = 0
        # Since when a response is unread, and since when the connection is closing.
        self._unsent_since: float | None = None
        self._closing_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock of the first request. With too many connections, abort the one that is idle longest."""
        self.began_at = self.loop.time()
        super().connection_made(transport)
        self._writer = ResponseWriter(transport)
        transport.set_write_buffer_limits(WRITE_BUFFER_BYTES)
        self._set_socket(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
        self._set_socket(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
        # The kernel keeps a response no longer than that either, even if the connection is closed on our side.
        self._set_socket(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * self._shared.unsent_seconds))
        if len(self.connections) > self._shared.limit and not self._shared.make_room():
            self._refuse(503, "There are too many connections; try again in a second.", b"retry-after: 1\r\n")
        else:
            self._shared.waiting[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Keep nothing of it."""
        self._forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, or keep it until the response before it is sent."""
        if not self._unread and not self._in_message and self._is_next():
            # Nearly always: one head, with its body if it has one, and nothing else.
            end = data.find(END_OF_HEAD) + len(END_OF_HEAD)
            if end == len(data):
                self._feed(data)
                return
            if end >= len(END_OF_HEAD):
                self._feed(data[:end])
                data = data[end:]
                if self._body_left == len(data) and not self.transport.is_closing():
                    self._feed(data)
                    return
        self._unread, self._offset = self._unread[self._offset :] + data if self._unread else data, 0
        self._parse()

    def _parse(self) -> None:
        """Parse what arrived, up to the end of a request that must be answered first."""
        data, at = self._unread, self._offset
        while at < len(data) and self._is_next():
            end = self._end_of_piece(data, at)
            self._feed(data[at:end])
            at = end
        if at < len(data) and not self.transport.is_closing():
            self._offset = at
            self.flow.pause_reading()
        else:
            self._unread, self._offset = b"", 0
            if self.flow.write_paused:
                self.flow.pause_reading()

    def _is_next(self) -> bool:
        """Whether the next bytes belong to the current request, or no request is in flight."""
        if not self._in_message and self.cycle is not None and not self.cycle.response_complete:
            return False
        return (self._in_message or not self.flow.write_paused) and not self.transport.is_closing()

    def _end_of_piece(self, data: bytes, at: int) -> int:
        """The end of the piece that is parsed next: no request ends before it."""
        if self._body_left and self.head_bytes is None:
            return min(len(data), at + self._body_left)
        if self._tail:
            cut = (self._tail + data[at : at + len(END_OF_HEAD) - 1]).find(END_OF_HEAD)
            if cut >= 0:
                return at + cut + len(END_OF_HEAD) - len(self._tail)
        found = data.find(END_OF_HEAD, at)
        return len(data) if found < 0 else found + len(END_OF_HEAD)

    def _feed(self, piece: bytes) -> None:
        if self.head_bytes is None:
            self._bytes_since_body += len(piece)
            if self._body_left:
                self._body_left -= len(piece)
        else:
            self.head_bytes += len(piece)
            # The parser has no limit of its own.
            if self.head_bytes > MAX_HEAD_BYTES:
                self._refuse(431, f"The head of a request has at most {MAX_HEAD_BYTES} bytes.")
                return
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self._ignore_upgrade()
        except httptools.HttpParserError:
            self.send_400_response("")
        if self._in_message:
            # It is not complete yet: its end may be split across pieces, and its trailers may be too long.
            self._tail = (self._tail + piece[1 - len(END_OF_HEAD) :])[1 - len(END_OF_HEAD) :]
            too_long = self._bytes_since_body > MAX_TRAILER_BYTES
        else:
            self._tail, too_long = b"", False
        if (too_long or self._trailer_bytes > MAX_TRAILER_BYTES) and not self.transport.is_closing():
            self._refuse(431, f"The trailers of a request have at most {MAX_TRAILER_BYTES} bytes.")

    def _ignore_upgrade(self) -> None:
        """Parse the head again without its offer of another protocol, as RFC 9110 7.8 allows.

        The parser takes what follows such a head for the other protocol instead of the request's body.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            self.send_400_response("")
            return
        fields = [b"%s: %s\r\n" % field for field in self.headers if field[0] != b"upgrade"]
        head = b"%s %s HTTP/%s\r\n%s\r\n" % (method, self.url, version, b"".join(fields))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        try:
            self.parser.feed_data(head)
        except httptools.HttpParserError:
            self.send_400_response("")

    def on_message_begin(self) -> None:
        """Start the clock of a request. Blank lines before it are not a request, and do not keep a connection open."""
        self._unset_keepalive_if_required()
        self.began_at, self._in_message = self.loop.time(), True
        self._trailer_bytes = self._bytes_since_body = self._body_left = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Record a field of the head. A trailer is dropped: it must not look like a header (RFC 9110 6.5.1)."""
        if self.head_bytes is None:
            self._trailer_bytes += len(name) + len(value) + len(b": \r\n")
            return
        name = name.lower()
        if name == b"content-length":
            self._body_left = int(value)
        elif name == b"transfer-encoding":
            self._body_left = None
        elif name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Start the application, which bounds the body."""
        if not self.parser.should_upgrade():
            self.head_bytes = None
            super().on_headers_complete()
            self.cycle.transport = self._writer  # type: ignore[assignment]  # all of it that a cycle calls

    def on_body(self, body: bytes) -> None:
        """Pass on a part of the body."""
        self._bytes_since_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the clock of the request, and wait for its response."""
        if self.head_bytes is not None:
            # Only the offer of another protocol is complete; its request is parsed again.
            return
        self.began_at, self.head_bytes, self._in_message = None, 0, False
        if self.cycle is not None and not self.cycle.response_complete:
            self._shared.waiting.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Parse the next request."""
        self._writer.flush()
        if self in self._shared.waiting:
            del self._shared.waiting[self]
        self._shared.waiting[self] = None
        super().on_response_complete()
        if self._unread or self.flow.write_paused:
            self._parse()

    def pause_writing(self) -> None:
        """Read nothing while the response is unread, and start its clock."""
        super().pause_writing()
        self.flow.pause_reading()
        self._unsent_since = self.loop.time()
        self._shared.unsent_bytes[self] = self.transport.get_write_buffer_size()
        self._shared.bound_unsent()

    def resume_writing(self) -> None:
        """The response is read: parse the next request."""
        super().resume_writing()
        self._unsent_since = None
        self._shared.unsent_bytes.pop(self, None)
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self._parse()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's own text, which is not JSON
        """Refuse what is not HTTP."""
        self._refuse(400, "This is not an HTTP request.")

    def close_if_overdue(self, now: float, seconds: float) -> None:
        """End a request that is still arriving, or a response that is unread, if it began more than `seconds` ago."""
        if self.transport.is_closing():
            self._closing_since = self._closing_since or now
        since = self._unsent_since or self._closing_since
        if since is not None and now - since >= seconds:
            self.abort()
            return
        if self.began_at is None or now - self.began_at < seconds or self.transport.is_closing():
            return
        in_head, responding = self.head_bytes is not None, self.cycle is not None and self.cycle.response_started
        # Nothing arrived at all; or the response was sent before the whole request arrived, and the rest is discarded;
        # or the response to the request before this one is being sent.
        if self.head_bytes == 0 or (responding and not (in_head and self.cycle.response_complete)):
            self.transport.close()
        else:
            self._refuse(408, "The request did not arrive in time.")

    def abort(self) -> None:
        """End it at once and drop everything that is not sent, in the kernel as well."""
        self._forget()
        self._set_socket(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _forget(self) -> None:
        self._unread, self._offset = b"", 0
        self._unsent_since = None
        self._shared.waiting.pop(self, None)
        self._shared.unsent_bytes.pop(self, None)

    def _set_socket(self, level: int, option: int, value: int | bytes) -> None:
        if connected := self.transport.get_extra_info("socket"):
            connected.setsockopt(level, option, value)

    def _refuse(self, status: int, sentence: str, field: bytes = b"") -> None:
        # A response is sent already, and a request gets only one.
        if self.head_bytes is None and self.cycle.response_started:
            self.transport.close()
            return
        body = b'{"error":"%s"}' % sentence.encode()
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n" % len(body)
        self.transport.write(STATUS_LINE[status] + head + field + b"\r\n" + body)
        self.transport.close()


class Server(uvicorn.Server):
    """A uvicorn server of one application."""

    def __init__(self, app: App | StartupApp, settings: Settings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host="0.0.0.0",  # noqa: S104 - inside a container every other address would be unreachable
                port=settings.listen_port,
                loop="uvloop",
                http=partial(BoundedHttpProtocol, Connections(settings)),  # type: ignore[arg-type]
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                # No setting says which proxy may name a caller's address.
                proxy_headers=False,
                timeout_keep_alive=settings.request_timeout_seconds,  # type: ignore[arg-type]  # only passed to a timer
                timeout_graceful_shutdown=UVICORN_SECONDS,
            )
        )
        self._app = app
        self._timeout_seconds = settings.request_timeout_seconds
        self._grace_seconds = settings.shutdown_grace_seconds

    async def on_tick(self, counter: int) -> bool:
        """Close what is overdue, once a second; uvicorn calls this ten times a second."""
        if counter % 10 == 0:
            self._close_overdue(self._timeout_seconds)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no connection, answer the requests of open ones, then shut down as uvicorn does."""
        self._app.draining = True
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        started = loop.time()
        while self.server_state.connections and loop.time() - started < self._grace_seconds - UVICORN_SECONDS:
            if loop.time() - started > DRAIN_SECONDS:
                for connection in list(self.server_state.connections):
                    # Closes it now if it is idle, else after its response.
                    connection.shutdown()
            await asyncio.sleep(0.05)
        self._close_overdue(0)
        await super().shutdown(sockets)

    def _close_overdue(self, seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        connections: list[Any] = list(self.server_state.connections)
        for connection in connections:
            connection.close_if_overdue(now, seconds)
