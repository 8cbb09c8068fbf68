"""uvicorn, with the bounds that it lacks: on heads, trailers, connections and untaken answers; and an orderly end."""

from __future__ import annotations

import asyncio
import socket
import struct
from functools import partial
from typing import TYPE_CHECKING, Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.app import App
from service.settings import Settings

if TYPE_CHECKING:
    from service.arriving import Arriving

HEAD_LIMIT_BYTES = 64_000
# What may arrive after a head and is no body: trailer fields, and what a chunk says beside its length.
TRAILER_LIMIT_BYTES = 8_000
END_OF_HEAD = b"\r\n\r\n"
# What the kernel may keep of a connection, in each direction. It doubles this, for its own records.
# It is also what a sender has under way: a body of 1 MB takes thirty times the way there and back.
SOCKET_BUFFER_BYTES = 32 * 1024
# With more than this unsent, an answer counts as not taken.
WRITE_BUFFER_BYTES = 16 * 1024
# After SIGTERM: whoever was about to ask on a connection that is kept is still answered, and told to close it.
DRAIN_SECONDS = 1.0
# What is left of the grace for uvicorn's own end, when all that could be answered is.
UVICORN_SECONDS = 1


class Connections:
    """What the connections of one server share."""

    def __init__(self, settings: Settings) -> None:
        self.limit = settings.connections_limit
        self.unsent_limit_bytes = settings.buffer_limit_bytes
        self.unsent_seconds = settings.body_seconds
        # Who is idle or still sends, the longest first.
        self.waiting: dict[Connection, None] = {}
        # Who does not take an answer, the longest first, and how many bytes of it are left.
        self.unsent_bytes: dict[Connection, int] = {}

    def make_room(self) -> bool:
        """End the connection that has taken no answer or sent no request for longest; False if there is none."""
        longest = next(iter(self.unsent_bytes), None) or next(iter(self.waiting), None)
        if longest is not None:
            longest.abort()
        return longest is not None

    def bound_unsent(self) -> None:
        """End the connections that have waited with an answer for longest, while all of them have too much."""
        while len(self.unsent_bytes) > 1 and sum(self.unsent_bytes.values()) > self.unsent_limit_bytes:
            next(iter(self.unsent_bytes)).abort()


class AnswerWriter:
    """What uvicorn writes an answer to: its head waits for the first part of its body, and both leave in one call."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Send it, or keep it if it is a head."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(STATUS_LINE[100]):
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Send a head without a body."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        """Close the connection when all is sent."""
        self.flush()
        self._transport.close()


class Connection(HttpToolsProtocol):
    """A connection of which one request at a time is read, and none while an answer is not taken.

    The parser cannot stop between two requests. So it gets what arrived in pieces that end where a request may end.
    """

    # When the request that is arriving began, by the loop's clock; None between requests.
    began: float | None = None
    # How much of its head there is; None if the head is whole.
    head_bytes: int | None = 0

    def __init__(self, shared: Connections, **given: Any) -> None:  # noqa: ANN401 - uvicorn's own arguments
        super().__init__(**given)
        self._shared = shared
        # What arrived and is not parsed yet, from `_at` on.
        self._unread, self._at = b"", 0
        self._in_message = False
        # How much of the body is missing; None if it comes in chunks.
        self._body_left: int | None = 0
        # The last bytes of the piece before: the end of a head can be cut in two.
        self._tail = b""
        self._trailer_bytes = self._bytes_since_body = 0
        # When an answer was first not taken, and when the connection was first seen to be closing.
        self._unsent_since: float | None = None
        self._closing_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Whoever connects has to send something. Where there is no room left, the longest idle has to go."""
        self.began = self.loop.time()
        super().connection_made(transport)
        self._writer = AnswerWriter(transport)
        transport.set_write_buffer_limits(WRITE_BUFFER_BYTES)
        self._set_socket(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
        self._set_socket(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
        # The kernel, too, keeps an answer no longer than that, even if the connection is closed on our side.
        self._set_socket(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * self._shared.unsent_seconds))
        if len(self.connections) > self._shared.limit and not self._shared.make_room():
            self._refuse(503, "There are too many connections; try again in a second.", b"retry-after: 1\r\n")
        else:
            self._shared.waiting[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing of it is kept."""
        self._forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, or keep it until it is its turn."""
        if not self._unread and not self._in_message and self._is_next():
            # Nearly always: a head, and its body if it has one, and nothing else.
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
        self._unread, self._at = self._unread[self._at :] + data if self._unread else data, 0
        self._parse()

    def _parse(self) -> None:
        """Parse what arrived, up to the end of a request that is to be answered first."""
        data, at = self._unread, self._at
        while at < len(data) and self._is_next():
            end = self._end_of_piece(data, at)
            self._feed(data[at:end])
            at = end
        if at < len(data) and not self.transport.is_closing():
            self._at = at
            self.flow.pause_reading()
        else:
            self._unread, self._at = b"", 0
            if self.flow.write_paused:
                self.flow.pause_reading()

    def _is_next(self) -> bool:
        """Whether what comes next belongs to the request that is arriving, or nothing is under way any more."""
        if not self._in_message and self.cycle is not None and not self.cycle.response_complete:
            return False
        return (self._in_message or not self.flow.write_paused) and not self.transport.is_closing()

    def _end_of_piece(self, data: bytes, at: int) -> int:
        """Where the piece ends that is parsed next: no request ends before it."""
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
            # The parser keeps as many as it gets.
            if self.head_bytes > HEAD_LIMIT_BYTES:
                self._refuse(431, f"The head of a request has at most {HEAD_LIMIT_BYTES} bytes.")
                return
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self._ignore_upgrade()
        except httptools.HttpParserError:
            self.send_400_response("")
        if self._in_message:
            # It is not whole yet: its end may be cut in two, and its trailers may be too long.
            self._tail = (self._tail + piece[1 - len(END_OF_HEAD) :])[1 - len(END_OF_HEAD) :]
            too_long = self._bytes_since_body > TRAILER_LIMIT_BYTES
        else:
            self._tail, too_long = b"", False
        if (too_long or self._trailer_bytes > TRAILER_LIMIT_BYTES) and not self.transport.is_closing():
            self._refuse(431, f"The trailers of a request have at most {TRAILER_LIMIT_BYTES} bytes.")

    def _ignore_upgrade(self) -> None:
        """Parse the head again without its offer of another protocol, as RFC 9110 7.8 allows.

        The parser takes what follows such a head for the other protocol, and not for the request's body.
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
        """A request begins to arrive. Blank lines before it are none, and keep no connection open."""
        self._unset_keepalive_if_required()
        self.began, self._in_message = self.loop.time(), True
        self._trailer_bytes = self._bytes_since_body = self._body_left = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head; one of a trailer is dropped, since it must not pass for one (RFC 9110 6.5.1)."""
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
        """Its head is whole; the application bounds its body."""
        if not self.parser.should_upgrade():
            self.head_bytes = None
            super().on_headers_complete()
            self.cycle.transport = self._writer  # type: ignore[assignment]  # all of it that a cycle calls

    def on_body(self, body: bytes) -> None:
        """A part of its body."""
        self._bytes_since_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """It is whole."""
        if self.head_bytes is not None:
            # The parser is done with an offer of another protocol, and its request begins again.
            return
        self.began, self.head_bytes, self._in_message = None, 0, False
        if self.cycle is not None and not self.cycle.response_complete:
            self._shared.waiting.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """It is answered: the next one may be parsed."""
        self._writer.flush()
        if self in self._shared.waiting:
            del self._shared.waiting[self]
        self._shared.waiting[self] = None
        super().on_response_complete()
        if self._unread or self.flow.write_paused:
            self._parse()

    def pause_writing(self) -> None:
        """An answer is not taken as fast as it is sent."""
        super().pause_writing()
        self.flow.pause_reading()
        self._unsent_since = self.loop.time()
        self._shared.unsent_bytes[self] = self.transport.get_write_buffer_size()
        self._shared.bound_unsent()

    def resume_writing(self) -> None:
        """It is taken."""
        super().resume_writing()
        self._unsent_since = None
        self._shared.unsent_bytes.pop(self, None)
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self._parse()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's own words, which are no JSON
        """Refuse what is not HTTP."""
        self._refuse(400, "This is no HTTP request.")

    def cut_if_late(self, now: float, seconds: float) -> None:
        """End the request that is arriving, or the answer that is not taken, if it began more than `seconds` ago."""
        if self.transport.is_closing():
            self._closing_since = self._closing_since or now
        since = self._unsent_since or self._closing_since
        if since is not None and now - since >= seconds:
            self.abort()
            return
        if self.began is None or now - self.began < seconds or self.transport.is_closing():
            return
        in_head, answering = self.head_bytes is not None, self.cycle is not None and self.cycle.response_started
        # Nothing was sent at all; or it was answered before it was whole, and the rest is only thrown away; or the
        # answer to the request before this one is on its way.
        if self.head_bytes == 0 or (answering and not (in_head and self.cycle.response_complete)):
            self.transport.close()
        else:
            self._refuse(408, "The request did not arrive in time.")

    def abort(self) -> None:
        """End it at once, with all that is not sent yet, in the kernel as well."""
        self._forget()
        self._set_socket(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _forget(self) -> None:
        self._unread, self._at = b"", 0
        self._unsent_since = None
        self._shared.waiting.pop(self, None)
        self._shared.unsent_bytes.pop(self, None)

    def _set_socket(self, level: int, option: int, value: int | bytes) -> None:
        if connected := self.transport.get_extra_info("socket"):
            connected.setsockopt(level, option, value)

    def _refuse(self, status: int, sentence: str, field: bytes = b"") -> None:
        # Of a request that is answered already nothing more is said.
        if self.head_bytes is None and self.cycle.response_started:
            self.transport.close()
            return
        body = b'{"error":"%s"}' % sentence.encode()
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n" % len(body)
        self.transport.write(STATUS_LINE[status] + head + field + b"\r\n" + body)
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
                http=partial(Connection, Connections(settings)),  # type: ignore[arg-type]
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                # Nobody says here whose word on a caller's address to take.
                proxy_headers=False,
                timeout_keep_alive=settings.body_seconds,  # type: ignore[arg-type]  # it only goes to a timer
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
