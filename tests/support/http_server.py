"""The HTTP server of the tests: a test gives the function that answers."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True)
class Response:
    status: int
    body: bytes | Iterator[bytes] = b""
    headers: dict[str, str] = field(default_factory=dict)


@contextmanager
def serve_raw(
    handle: Callable[[BaseHTTPRequestHandler], None], address: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """Pass each request to `handle`, which reads and answers it, or not; yield host:port.

    `handle` can hang up in the middle, or read a body byte by byte. Most tests need `serve`.
    """

    class Handler(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            handle(self)

        do_CONNECT = do_GET = do_HEAD = do_PATCH = do_POST = do_PUT = handle_one  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - as above

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            # A client that leaves in the middle is what some tests want.
            if not isinstance(sys.exception(), OSError):
                super().handle_error(request, client_address)  # type: ignore[arg-type]  # typeshed says more

    with Server((address, 0), Handler) as server:
        if tls:
            # The handshake is the thread's of the connection: a client that makes none must not stop all others.
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"{address}:{server.server_port}"
        finally:
            server.shutdown()


def serve(
    answer: Callable[[Request], Response | None], tls: ssl.SSLContext | None = None, address: str = "127.0.0.1"
) -> AbstractContextManager[str]:
    """Serve what `answer` returns for each request; None cuts the connection. The context is host:port."""

    def handle(handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        response = answer(Request(handler.command, handler.path, body, dict(handler.headers)))
        if response is None:
            handler.close_connection = True
        else:
            send(handler, response)

    return serve_raw(handle, address, tls)


def send(handler: BaseHTTPRequestHandler, response: Response) -> None:
    """Send a response; its length too, if its body is bytes."""
    handler.send_response(response.status)
    for name, value in response.headers.items():
        handler.send_header(name, value)
    # The answer to HEAD has the length of a body that it does not have.
    if isinstance(response.body, bytes) and "content-length" not in map(str.lower, response.headers):
        handler.send_header("Content-Length", str(len(response.body)))
    handler.end_headers()
    if handler.command != "HEAD":
        with suppress(BrokenPipeError, ConnectionResetError):
            for part in [response.body] if isinstance(response.body, bytes) else response.body:
                handler.wfile.write(part)
