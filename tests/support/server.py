"""A small HTTP server on this machine, for whatever a test wants the other side to say."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
def serving(answer: Callable[[Request], Response | None], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve `answer` at the address that is yielded, as host:port; None cuts the connection."""

    class Handler(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            response = answer(Request(self.command, self.path, body, dict(self.headers)))
            if response is None:
                self.close_connection = True
                return
            self.send_response(response.status)
            length = {"Content-Length": str(len(response.body))} if isinstance(response.body, bytes) else {}
            for name, value in {**response.headers, **length}.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(BrokenPipeError, ConnectionResetError):
                for part in [response.body] if isinstance(response.body, bytes) else response.body:
                    self.wfile.write(part)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = handle_one  # noqa: N815 - the names that http.server calls

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - as above

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            # A client that leaves in the middle is what some tests want.
            if not isinstance(sys.exception(), OSError):
                super().handle_error(request, client_address)  # type: ignore[arg-type]  # typeshed says more

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls:
            # The handshake is the thread's of the connection: a client that makes none must not stop all others.
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
