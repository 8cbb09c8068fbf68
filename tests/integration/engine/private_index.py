"""A package index as PEP 503 has it that asks for a name and a password, with one package, behind a company's proxy."""

from __future__ import annotations

import base64
import hashlib
import io
import ssl
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from drydock.oci.registry import Credentials
from tests.support.http_server import serve_raw

HOST = "pypi.example"
NAME, VERSION = "private", "1.0"
WHEEL = f"{NAME}-{VERSION}-py3-none-any.whl"


@dataclass
class Index:
    """The proxy that leads to HOST, the lock of the one package, and the path of each request by how it ended."""

    proxy: str
    lock: str
    asked: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def wheel(code: str) -> bytes:
    """A package of one module."""
    info = f"{NAME}-{VERSION}.dist-info"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(f"{NAME}.py", code)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in archive.namelist()))
    return packed.getvalue()


@contextmanager
def served(login: Credentials, address: str, tls: ssl.SSLContext, code: str) -> Iterator[Index]:
    """Serve the package with this `code` to who knows the password; `tls` has the certificate of HOST."""
    content = wheel(code)
    sha256 = hashlib.sha256(content).hexdigest()
    pages = {
        f"/simple/{NAME}/": ("text/html", f'<a href="/files/{WHEEL}#sha256={sha256}">{WHEEL}</a>'.encode()),
        f"/files/{WHEEL}": ("application/zip", content),
    }
    expected = "Basic " + base64.b64encode(f"{login.user}:{login.password}".encode()).decode()

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Authorization") != expected:
                index.refused.append(self.path)
                return self._answer(401, "text/plain", b"")
            index.asked.append(self.path)
            return self._answer(200, *pages[self.path]) if self.path in pages else self._answer(404, "text/plain", b"")

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("WWW-Authenticate", 'Basic realm="test"')
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - the standard library's name

    def connect(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200 if handler.path == f"{HOST}:443" else 403)
        handler.end_headers()
        with suppress(OSError), tls.wrap_socket(handler.connection, server_side=True) as connection:
            Site(connection, handler.client_address, handler.server)
        handler.close_connection = True

    with serve_raw(connect, address) as host:
        index = Index(f"http://{host}", f"{NAME}=={VERSION} --hash=sha256:{sha256}\n")
        yield index
