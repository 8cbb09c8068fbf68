"""What lies before a registry: TLS of a private authority, a name elsewhere, a proxy, a host that drops packets."""

from __future__ import annotations

import os
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest import mock

from tests.integration.registry import proxy
from tests.integration.registry.world import World
from tests.support import tls


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """The environment with these variables, and without what this machine says of proxies and authorities."""
    unset = {"SSL_CERT_FILE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}
    kept = {name: value for name, value in os.environ.items() if name.upper() not in unset}
    with mock.patch.dict(os.environ, {**kept, **variables}, clear=True):
        yield


@contextmanager
def elsewhere(world: World, context: ssl.SSLContext | None) -> Iterator[None]:
    """The registry is reached by a name that is not this machine's; with TLS if there is a `context`."""
    with proxy.before(world.host, tls=context) as door, tls.named():
        door.host = f"{tls.NAME}:{door.host.rpartition(':')[2]}"
        world.door = door
        yield


@contextmanager
def authority(world: World, name: str = tls.NAME) -> Iterator[tuple[Path, ssl.SSLContext]]:
    """A private authority, and what serves a name with a certificate of its."""
    with environment():
        yield tls.authority(world.folder, name)


@contextmanager
def tunnel(to: str) -> Iterator[tuple[str, list[str]]]:
    """A proxy that leads whoever asks for a host to another one; its address, and which hosts were asked for."""
    asked: list[str] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            head = b""
            while b"\r\n\r\n" not in head:
                head += self.request.recv(4096)
            asked.append(head.split()[1].decode())
            host, _, port = to.rpartition(":")
            with socket.create_connection((host, int(port))) as upstream, suppress(OSError):
                self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=_pump, args=(upstream, self.request), daemon=True)
                back.start()
                _pump(self.request, upstream)
                back.join(10)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()


@contextmanager
def full() -> Iterator[str]:
    """host:port of this machine where the kernel drops each packet of whoever comes."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65536):
            target.sendall(part)
        target.shutdown(socket.SHUT_WR)
