"""What lies between us and a registry: names, TLS, redirects, proxies, and hosts that stay silent."""

from __future__ import annotations

import hashlib
import socket
import socketserver
import ssl
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from drydock.errors import RegistryError, UsageError
from drydock.oci import registry
from drydock.oci.registry import Credentials, RetryPolicy
from tests.support import tls
from tests.support.http_server import Request, Response, serve

MANIFEST = b'{"schemaVersion": 2}'
DIGEST = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"
BLOB = b"of a blob"
BLOB_DIGEST = f"sha256:{hashlib.sha256(BLOB).hexdigest()}"
LOGIN = Credentials("someone", "s3cret")
ONCE = RetryPolicy(attempts=1, timeout_seconds=5)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    return tls.authority(tmp_path_factory.mktemp("authority"))


def digest(host: str, login: Credentials | None = None, retry_policy: RetryPolicy = ONCE) -> str | None:
    async def ask() -> str | None:
        async with registry.open_repository(f"{host}/owner/name", login, retry_policy=retry_policy) as repository:
            return await repository.get_digest("1.2.3")

    return anyio.run(ask)


def blob(host: str, login: Credentials | None = None) -> bytes:
    async def ask() -> bytes:
        async with registry.open_repository(f"{host}/owner/name", login, retry_policy=ONCE) as repository:
            return await repository.get_blob(BLOB_DIGEST)

    return anyio.run(ask)


def serves(_: Request) -> Response:
    return Response(200, MANIFEST)


@contextmanager
def remote(answer: Callable[[Request], Response | None], context: ssl.SSLContext | None) -> Iterator[str]:
    """Serve under a name that is not this machine's."""
    with serve(answer, context) as host, tls.named():
        yield f"{tls.NAME}:{host.rpartition(':')[2]}"


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["docker.io", "index.docker.io", "registry-1.docker.io"])
def test_docker_hub_is_asked_where_it_answers(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")

        async def ask() -> None:
            def answer() -> None:
                with proxy.accept()[0] as client:
                    seen.append(client.recv(4096).split(b"\r\n")[0].decode())
                    client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")

            async with anyio.create_task_group() as group:
                group.start_soon(anyio.to_thread.run_sync, answer)
                with pytest.raises(RegistryError, match=rf"^no registry answers at {host}: the proxy .*502"):
                    await registry.require_answer(f"{host}/owner/name")

        anyio.run(ask)
    assert seen == ["CONNECT registry-1.docker.io:443 HTTP/1.1"]
    assert registry.get_base_url(host) == "https://registry-1.docker.io"


def test_an_official_image_of_docker_hub_has_its_whole_name() -> None:
    async def url(repository: str) -> str:
        async with registry.open_repository(repository, None) as opened:
            return opened.connection.url

    assert anyio.run(url, "docker.io/python") == "https://registry-1.docker.io/v2/library/python"
    assert anyio.run(url, "docker.io/owner/name") == "https://registry-1.docker.io/v2/owner/name"
    assert anyio.run(url, "ghcr.io/name") == "https://ghcr.io/v2/name"


# --- TLS ------------------------------------------------------------------------------------------------------------


def test_a_private_authority_is_trusted_if_the_environment_names_it(
    authority: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, context = authority
    with remote(serves, context) as host:
        with pytest.raises(RegistryError) as untrusted:
            digest(host)
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        assert digest(host) == DIGEST
        anyio.run(registry.require_answer, f"{host}/name")
    error = untrusted.value
    assert error.message == f"the certificate of {host} is not trusted: unable to get local issuer certificate"
    assert error.likely_cause == "a private authority issued it, or a proxy on the way shows its own"
    assert error.next_step == "set SSL_CERT_FILE to a PEM file with that authority's certificate, then run again"


def test_the_public_authorities_stay_trusted_beside_a_private_one(
    authority: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    public = len(registry.create_tls_context({}).get_ca_certs())
    assert public > 50
    assert len(registry.create_tls_context({"SSL_CERT_FILE": str(authority[0])}).get_ca_certs()) == public + 1


def test_what_runs_in_containers_gets_the_certificates_as_they_are(authority: tuple[Path, ssl.SSLContext]) -> None:
    assert registry.read_ca_certificates({"SSL_CERT_FILE": str(authority[0])}) == authority[0].read_text()
    assert registry.read_ca_certificates({}) == registry.read_ca_certificates({"SSL_CERT_FILE": ""}) == ""


def test_an_untrusted_certificate_is_told_once_and_not_tried_again(authority: tuple[Path, ssl.SSLContext]) -> None:
    told: list[str] = []

    async def ask(host: str) -> None:
        async with registry.open_repository(f"{host}/owner/name", None, told.append) as repository:
            await repository.get_digest("1.2.3")

    with remote(serves, authority[1]) as host, pytest.raises(RegistryError, match="is not trusted"):
        anyio.run(ask, host)
    assert told == []


@pytest.mark.parametrize(
    ("name", "days", "said"), [("other.example", 30, "Hostname mismatch"), (tls.NAME, -1, "certificate has expired")]
)
def test_a_certificate_that_no_authority_can_help_is_to_be_renewed(
    name: str, days: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, context = tls.authority(tmp_path, name, days=days)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with remote(serves, context) as host, pytest.raises(RegistryError, match=said) as refused:
        digest(host)
    assert "SSL_CERT_FILE" not in refused.value.next_step
    assert refused.value.next_step.startswith("give the registry a certificate for its name")


@pytest.mark.parametrize("content", [None, b"", b"no PEM"])
def test_an_authority_that_cannot_be_read_is_told_before_anything_is_asked(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with pytest.raises(UsageError, match=f"^SSL_CERT_FILE names no certificates: {path}: ") as refused:
        digest("registry.example")
    assert refused.value.exit_code == 2


def test_a_registry_elsewhere_without_tls_has_a_sentence_of_its_own() -> None:
    with remote(serves, None) as host:
        with pytest.raises(RegistryError) as plain:
            digest(host)
        with pytest.raises(RegistryError, match=f"^{host} speaks no TLS: "):
            anyio.run(registry.require_answer, f"{host}/name")
    assert plain.value.message.startswith(f"{host} speaks no TLS: ")
    assert plain.value.likely_cause == "it is set up for plain HTTP, and only a registry on this machine is asked so"
    assert plain.value.next_step == "give the registry a certificate, or name the port where it speaks TLS"


@pytest.mark.parametrize("answers", [True, False], ids=["answers 400", "hangs up"])
def test_a_registry_of_this_machine_with_tls_has_a_sentence_of_its_own(
    answers: bool, authority: tuple[Path, ssl.SSLContext]
) -> None:
    class Handler(socketserver.BaseRequestHandler):
        """As Go's server does it, and nginx, or as others do."""

        def handle(self) -> None:
            if self.request.recv(1, socket.MSG_PEEK) == b"\x16":
                authority[1].wrap_socket(self.request, server_side=True).close()
            elif answers:
                self.request.recv(4096)
                self.request.sendall(
                    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
                )

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        host = f"127.0.0.1:{server.server_address[1]}"
        with pytest.raises(RegistryError) as encrypted:
            digest(host)
        with pytest.raises(RegistryError, match=f"^{host} speaks TLS, "):
            anyio.run(registry.require_answer, f"{host}/name")
        server.shutdown()
    assert encrypted.value.message == f"{host} speaks TLS, and a registry on this machine is asked without"
    assert encrypted.value.next_step == (
        "name it by a name of this machine that its certificate has, such as that of `hostname -f`"
    )


# --- silence --------------------------------------------------------------------------------------------------------


def test_a_host_that_drops_packets_has_a_reason_and_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drydock.oci.registry.client.TIMEOUT_SECONDS", 0.2)
    retry_policy = RetryPolicy(attempts=2, first_wait_seconds=0.001, timeout_seconds=0.2)
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # Whoever comes after these gets no answer from the kernel.
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        host = f"127.0.0.1:{full.getsockname()[1]}"
        with pytest.raises(RegistryError) as silent:
            digest(host, retry_policy=retry_policy)
        with pytest.raises(RegistryError) as silent_too:
            anyio.run(registry.require_answer, f"{host}/name")
    for error in (silent.value, silent_too.value):
        assert error.message == f"no registry answers at {host}: no connection within 0.2 s"


def test_a_host_that_takes_a_call_and_says_nothing_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drydock.oci.registry.client.TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        host = f"127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(RegistryError, match=f"^no registry answers at {host}: no answer within 0.2 s$"):
            anyio.run(registry.require_answer, f"{host}/name")


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "ftp://127.0.0.1:1", "http://127.0.0.1:x"])
def test_a_proxy_that_cannot_be_used_is_named(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(UsageError, match=r"^the proxy that the environment names cannot be used: "):
        digest("registry.example")
    with pytest.raises(UsageError, match=r"^the proxy that the environment names cannot be used: "):
        anyio.run(registry.require_answer, "registry.example/name")


# --- redirects ------------------------------------------------------------------------------------------------------


def redirects(to: str) -> Callable[[Request], Response]:
    return lambda _: Response(307, headers={"Location": to})


def test_a_redirect_is_followed_within_this_machine_and_to_tls(
    authority: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[0]))
    seen: list[Request] = []

    def stored(request: Request) -> Response:
        seen.append(request)
        return Response(200, BLOB)

    with serve(stored) as here, serve(redirects(f"http://{here}/blob")) as host:
        assert blob(host) == BLOB
    with remote(stored, authority[1]) as there, serve(redirects(f"https://{there}/blob")) as host:
        assert blob(host) == BLOB
    assert [request.headers["Accept-Encoding"] for request in seen] == ["identity", "identity"]


def test_a_relative_redirect_is_one_of_the_registry() -> None:
    def answer(request: Request) -> Response:
        return Response(200, BLOB) if request.path == "/kept" else Response(302, headers={"Location": "/kept"})

    with serve(answer) as host:
        assert blob(host) == BLOB


@pytest.mark.parametrize(
    "to", ["http://127.0.0.1:{port}/", "https://127.0.0.1:{port}/", "https://localhost.:{port}/",
           "https://[::1]:{port}/", "https://[::ffff:127.0.0.1]:{port}/", "https://0.0.0.0:{port}/", "https://2130706433:{port}/"]
)  # fmt: skip
def test_a_registry_elsewhere_sends_nobody_to_this_machine(
    to: str, authority: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[0]))
    seen: list[Request] = []

    def local(request: Request) -> Response:
        seen.append(request)
        return Response(200, BLOB)

    with serve(local) as here:
        address = to.format(port=here.rpartition(":")[2])
        with (
            remote(redirects(address), authority[1]) as host,
            pytest.raises(RegistryError, match=f"^{host} sends us to a service of this machine: "),
        ):
            blob(host)
    assert seen == []


@pytest.mark.parametrize("what", ["realm", "upload", "page"])
def test_no_address_of_a_registry_elsewhere_leads_to_this_machine(
    what: str, authority: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[0]))
    seen: list[Request] = []

    def local(request: Request) -> Response:
        seen.append(request)
        return Response(200, b'{"token": "t0ken"}')

    with serve(local) as here:

        def answer(request: Request) -> Response:
            if what == "realm":
                return Response(401, headers={"WWW-Authenticate": f'Bearer realm="http://{here}/token"'})
            if what == "page":
                return Response(200, b'{"tags": []}', {"Link": f'<http://{here}/tags>; rel="next"'})
            return (
                Response(404) if request.method == "HEAD" else Response(202, headers={"Location": f"http://{here}/up"})
            )

        async def ask(host: str) -> None:
            async with registry.open_repository(f"{host}/owner/name", LOGIN, retry_policy=ONCE) as repository:
                if what == "upload":
                    await repository.upload_if_absent(
                        registry.Descriptor(BLOB_DIGEST, "", len(BLOB)), lambda _: chunks()
                    )
                else:
                    await repository.list_tags()

        async def chunks() -> AsyncGenerator[bytes, None]:
            yield BLOB

        with remote(answer, authority[1]) as host, pytest.raises(RegistryError, match="to a service of this machine"):
            anyio.run(ask, host)
    assert seen == []


def test_a_redirect_leads_to_tls_and_never_back(
    authority: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[0]))
    with (
        remote(redirects("http://elsewhere.example/blob"), authority[1]) as host,
        pytest.raises(RegistryError, match=f"^{host} sends us to elsewhere.example without TLS"),
    ):
        blob(host)
    with (
        serve(lambda _: Response(200, BLOB)) as here,
        remote(redirects(f"http://{here}/blob"), authority[1]) as there,
        serve(redirects(f"https://{there}/blob")) as host,
        pytest.raises(RegistryError, match=f"^{host} sends us from TLS to 127.0.0.1 without"),
    ):
        blob(host)


def test_redirects_have_an_end() -> None:
    seen: list[str] = []

    def answer(request: Request) -> Response:
        seen.append(request.path)
        return Response(307, headers={"Location": "/again"})

    with (
        serve(answer) as host,
        pytest.raises(RegistryError, match="sends us from one address to the next without end"),
    ):
        blob(host)
    assert 5 < len(seen) < 30


def test_nobody_but_the_registry_may_ask_for_a_password(
    authority: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A storage that a redirect leads to asks for a token of its own: it gets neither a password nor a token."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[0]))
    seen: list[Request] = []

    def thief(request: Request) -> Response:
        seen.append(request)
        return Response(401, headers={"WWW-Authenticate": f'Bearer realm="http://{request.headers["Host"]}/token"'})

    with (
        serve(thief) as elsewhere,
        serve(redirects(f"http://{elsewhere}/blob")) as host,
        pytest.raises(RegistryError, match="answered 401 to GET blob"),
    ):
        blob(host, LOGIN)
    assert ["Authorization" in request.headers for request in seen] == [False]
