"""A door before the real registry, at which a test says what goes wrong, with which request, and how often."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

import httpx

from drydock.oci.media_types import MANIFESTS
from tests.support.http_server import serve_raw

ALWAYS = 1_000_000
# What is sent on has a length of its own.
NOT_PASSED_ON = ("Transfer-Encoding", "Content-Length")


@dataclass
class Exchange:
    """One request on its way, and what may become of it."""

    handler: BaseHTTPRequestHandler
    upstream: str

    def body(self, most_bytes: int = -1) -> bytes:
        if self.handler.headers.get("Transfer-Encoding") == "chunked":
            return b"".join(self._chunks())
        length = int(self.handler.headers.get("Content-Length") or 0)
        return self.handler.rfile.read(length if most_bytes < 0 else min(length, most_bytes))

    def _chunks(self) -> Iterator[bytes]:
        while length := int(self.handler.rfile.readline(), 16):
            yield self.handler.rfile.read(length)
            self.handler.rfile.readline()
        self.handler.rfile.readline()

    def ask(self, sent: bytes | None = None) -> tuple[int, list[tuple[str, str]], bytes]:
        """What the registry says to what was `sent`; the client's own Host is kept, so it comes back to this door."""
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        try:
            body = self.body() if sent is None else sent
            headers = {name: value for name, value in self.handler.headers.items() if name not in NOT_PASSED_ON}
            connection.request(self.handler.command, self.handler.path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def say(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Answer, then hang up."""
        self.handler.send_response(status)
        for name, value in headers:
            self.handler.send_header(name, value)
        self.handler.end_headers()
        self.handler.wfile.write(body)

    def refuse(self, status: int, code: str) -> None:
        """Answer with an error of the form that registries have."""
        body = json.dumps({"errors": [{"code": code, "message": "of a test"}] if code else []}).encode()
        self.say(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))], body)


Act = Callable[[Exchange], None]


@dataclass
class Rule:
    """What becomes of the first `times` requests whose method is, and whose path has something, of this form."""

    method: str
    path: str
    act: Act
    times: int = 1


@dataclass
class Door:
    """The address of the door, the rules that hold there, and every request that came, as METHOD path."""

    host: str = ""
    rules: list[Rule] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def act(self, method: str, path: str) -> Act:
        with self.lock:
            self.seen.append(f"{method} {path}")
            for rule in self.rules:
                if rule.times and re.fullmatch(rule.method, method) and re.search(rule.path, path):
                    rule.times -= 1
                    return rule.act
        return passes


def passes(exchange: Exchange) -> None:
    """Nothing goes wrong."""
    exchange.say(*exchange.ask())


def answers(status: int, code: str = "", headers: dict[str, str] | None = None) -> Act:
    """The door answers, and the registry hears nothing."""

    def act(exchange: Exchange) -> None:
        exchange.body()
        body = json.dumps({"errors": [{"code": code, "message": "of a test"}]} if code else {}).encode()
        exchange.say(status, [("Content-Length", str(len(body))), *(headers or {}).items()], body)

    return act


def cuts(after_bytes: int = 0) -> Act:
    """The connection is cut after so many bytes of what is sent; the registry hears nothing."""

    def act(exchange: Exchange) -> None:
        exchange.body(after_bytes)

    return act


def keeps_the_answer(exchange: Exchange) -> None:
    """The registry does what it is asked for, and the connection is cut before it can say so."""
    exchange.ask()


def cuts_answer(after_bytes: int) -> Act:
    """The connection is cut after so many bytes of what the registry serves."""

    def act(exchange: Exchange) -> None:
        status, headers, body = exchange.ask()
        exchange.say(status, headers, body[:after_bytes])

    return act


def silent(exchange: Exchange) -> None:
    """Nobody answers until the client hangs up."""
    exchange.body()
    exchange.handler.rfile.read(1)


def first(work: Callable[[], object]) -> Act:
    """Something happens, then the registry is asked."""

    def act(exchange: Exchange) -> None:
        work()
        passes(exchange)

    return act


def then(work: Callable[[], object]) -> Act:
    """The registry is asked, then something happens, then its answer comes."""

    def act(exchange: Exchange) -> None:
        answer = exchange.ask()
        work()
        exchange.say(*answer)

    return act


def rewrites(content: bytes) -> Act:
    """Something else comes back than the registry serves."""

    def act(exchange: Exchange) -> None:
        status, headers, _ = exchange.ask()
        kept = [(name, value) for name, value in headers if name != "Content-Length"]
        exchange.say(status, [*kept, ("Content-Length", str(len(content)))], content)

    return act


def keeps_tags(status: int, code: str) -> Act:
    """A tag that is there is written no more, not even with the same manifest."""

    def act(exchange: Exchange) -> None:
        body = exchange.body()
        wanted = {"Accept": ", ".join(MANIFESTS)}
        there = httpx.get(f"http://{exchange.upstream}{exchange.handler.path}", headers=wanted, trust_env=False)
        if there.is_success:
            exchange.refuse(status, code)
        else:
            exchange.say(*exchange.ask(body))

    return act


def takes_images_only(exchange: Exchange) -> None:
    """A manifest whose configuration is no image's is refused, as older registries do it."""
    body = exchange.body()
    config = json.loads(body).get("config", {}).get("mediaType", "application/vnd.oci.image.config.v1+json")
    if config.endswith((".image.config.v1+json", ".container.image.v1+json")):
        exchange.say(*exchange.ask(body))
    else:
        exchange.refuse(400, "MANIFEST_INVALID")


def takes_bodies_up_to(most_bytes: int) -> Act:
    """A longer body is refused, as a proxy before the registry does it."""

    def act(exchange: Exchange) -> None:
        body = exchange.body()
        if len(body) > most_bytes:
            exchange.say(413, [("Content-Type", "text/html"), ("Content-Length", "4")], b"413\n")
        else:
            exchange.say(*exchange.ask(body))

    return act


@contextmanager
def before(upstream: str, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[Door]:
    """Serve a door before the registry at `upstream`, which is host:port; with `tls` it speaks https."""
    door = Door()

    def handle(handler: BaseHTTPRequestHandler) -> None:
        if tls:
            handler.headers["X-Forwarded-Proto"] = "https"
        with suppress(ConnectionError):
            door.act(handler.command, handler.path)(Exchange(handler, upstream))
        handler.close_connection = True

    with serve_raw(handle, address, tls) as door.host:
        yield door
