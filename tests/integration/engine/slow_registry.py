"""The registry of this machine, behind a door through which no blob gets: a push can be stopped in its middle."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

import httpx

from tests.integration.engine.project import REGISTRY
from tests.support.http_server import Response, send, serve_raw


@dataclass(frozen=True)
class Upload:
    """What became of the first blob: somebody began to send it, and then hung up."""

    begun: threading.Event = field(default_factory=threading.Event)
    cut: threading.Event = field(default_factory=threading.Event)


@contextmanager
def served() -> Iterator[tuple[str, Upload]]:
    """Pass on every question, take every blob and never say that it arrived; host:port, and what became of it."""
    upload = Upload()

    def handle(handler: BaseHTTPRequestHandler) -> None:
        if handler.command in ("PUT", "PATCH"):
            upload.begun.set()
            with suppress(ConnectionError):
                while handler.rfile.read(1):
                    pass
            upload.cut.set()
            handler.close_connection = True
            return
        url = f"http://{REGISTRY}{handler.path}"
        answer = httpx.request(handler.command, url, headers=dict(handler.headers), content=b"", timeout=60)
        send(handler, Response(answer.status_code, answer.content, dict(answer.headers)))

    with serve_raw(handle) as host:
        yield host, upload
