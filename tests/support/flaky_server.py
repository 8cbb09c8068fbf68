"""An HTTP server that fails half-way, in whatever way a test asks for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TIMEOUT_SECONDS = 20


class Halfway(ThreadingHTTPServer):
    """Serves `files` by their paths, and notes what was asked: path and Range of each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
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

    def ranges_of(self, path: str) -> list[str]:
        return [asked for of, asked in self.asked if of == path]


class Handler(BaseHTTPRequestHandler):
    server: Halfway

    def do_GET(self) -> None:
        source, wanted = self.server, self.headers.get("Range", "")
        source.asked.append((self.path, wanted))
        source.headers.append(dict(self.headers))
        content = source.turns.pop(0) if source.turns else source.files.get(self.path)
        status = source.statuses.pop(0) if source.statuses else 404 if content is None else 200
        if status != 200 or content is None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and source.knows_ranges else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if source.says_length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        rest = content[start:]
        cuts = source.cuts.get(self.path)
        if cuts:
            sent = cuts.pop(0)
            self.wfile.write(rest[:sent])
            deadline = time.monotonic() + TIMEOUT_SECONDS
            while not source.arrived(start + sent) and time.monotonic() < deadline:
                time.sleep(0.01)
        elif self.path in source.holds:
            self.wfile.write(rest[: source.holds[self.path]])
            if source.go_on.wait(TIMEOUT_SECONDS):
                self.wfile.write(rest[source.holds[self.path] :])
        else:
            self.wfile.write(rest)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def halfway() -> Iterator[Halfway]:
    with Halfway() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.go_on.set()
            server.shutdown()
            thread.join()
