"""The registry of this machine, behind a door that asks for a name and a password."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from registry import Credentials
from tests.engine.project import REGISTRY


@contextmanager
def served(login: Credentials) -> Iterator[str]:
    """Pass on what comes with these credentials, and refuse all else; host:port."""
    expected = "Basic " + base64.b64encode(f"{login.user}:{login.password}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def ask(self) -> None:
            body = b"".join(self.chunks())
            if self.headers.get("Authorization") != expected:
                self.answer(401, {"WWW-Authenticate": 'Basic realm="test"'}, b"")
                return
            # The registry names itself in its answers as it is called here.
            headers = {name: self.headers[name] for name in ("Accept", "Content-Type", "Host") if self.headers[name]}
            asked = httpx.request(
                self.command, f"http://{REGISTRY}{self.path}", headers=headers, content=body, timeout=60
            )
            self.answer(asked.status_code, dict(asked.headers), asked.content)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = ask  # noqa: N815 - the names that http.server calls

        def chunks(self) -> Iterator[bytes]:
            """The body, of a known length or in chunks."""
            if self.headers.get("Transfer-Encoding") != "chunked":
                yield self.rfile.read(int(self.headers.get("Content-Length") or 0))
                return
            while length := int(self.rfile.readline(), 16):
                yield self.rfile.read(length)
                self.rfile.readline()
            self.rfile.readline()

        def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if not any(name.lower() == "content-length" for name in headers):
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - as above
            """Be silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
