"""An HTTP server that fails half-way, in whatever way a test asks for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from tests.support.http_server import Response, send, serve_raw

TIMEOUT_SECONDS = 20


class FlakyServer:
    """Serves `files` by their paths, and notes what was asked: path and Range of each request."""

    def __init__(self) -> None:
        self.url = ""
        self.files: dict[str, bytes] = {}
        # Instead of them, for the next answers in turn.
        self.turns: list[bytes] = []
        self.asked: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        # For the next answers in turn, for each path: how many bytes are sent before the connection is cut.
        self.cuts: dict[str, list[int]] = {}
        # Whether all up to a byte of the file is where it belongs: what is still on its way is lost with a connection.
        self.arrived: Callable[[int], bool] = lambda _: True
        # For the next answers in turn: a status instead of the file.
        self.statuses: list[int] = []
        self.knows_ranges = True
        # Where a file's length is not said, only the connection's end says that it is over.
        self.says_length = True
        # After so many bytes of a path nothing more is sent until `go_on` is set.
        self.holds: dict[str, int] = {}
        self.go_on = threading.Event()

    @property
    def server_port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def ranges_of(self, path: str) -> list[str]:
        return [asked for of, asked in self.asked if of == path]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range", "")
        self.asked.append((handler.path, wanted))
        self.headers.append(dict(handler.headers))
        content = self.turns.pop(0) if self.turns else self.files.get(handler.path)
        status = self.statuses.pop(0) if self.statuses else 404 if content is None else 200
        if status != 200 or content is None:
            send(handler, Response(status))
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.knows_ranges else 0
        if start >= len(content):
            send(handler, Response(416))
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.says_length:
            handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        rest = content[start:]
        cuts = self.cuts.get(handler.path)
        if cuts:
            sent = cuts.pop(0)
            handler.wfile.write(rest[:sent])
            deadline = time.monotonic() + TIMEOUT_SECONDS
            while not self.arrived(start + sent) and time.monotonic() < deadline:
                time.sleep(0.01)
        elif (held := self.holds.get(handler.path)) is not None:
            # The place is one of the file: a second request gets no further than the first.
            stop = max(start, held)
            handler.wfile.write(content[start:stop])
            if self.go_on.wait(TIMEOUT_SECONDS):
                handler.wfile.write(content[stop:])
        else:
            handler.wfile.write(rest)


@contextmanager
def flaky_server() -> Iterator[FlakyServer]:
    source = FlakyServer()
    with serve_raw(source.answer) as host:
        source.url = f"http://{host}"
        try:
            yield source
        finally:
            source.go_on.set()
