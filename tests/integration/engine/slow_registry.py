"""The registry of this machine, behind a door through which no blob gets: a push can be stopped in its middle."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from tests.integration.engine.project import REGISTRY


@dataclass(frozen=True)
class Upload:
    """What became of the first blob: somebody began to send it, and then hung up."""

    begun: threading.Event = field(default_factory=threading.Event)
    cut: threading.Event = field(default_factory=threading.Event)


@contextmanager
def served() -> Iterator[tuple[str, Upload]]:
    """Pass on every question, take every blob and never say that it arrived; host:port, and what became of it."""
    upload = Upload()

    class Handler(BaseHTTPRequestHandler):
        def ask(self) -> None:
            answer = httpx.request(
                self.command, f"http://{REGISTRY}{self.path}", headers=dict(self.headers), content=b"", timeout=60
            )
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_HEAD = do_POST = ask  # noqa: N815 - the names that http.server calls

        def do_PUT(self) -> None:
            upload.begun.set()
            with suppress(ConnectionError):
                while self.rfile.read(1):
                    pass
            upload.cut.set()
            self.close_connection = True

        do_PATCH = do_PUT  # noqa: N815 - as above

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - as above
            """Be silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_port}", upload
        finally:
            server.shutdown()
