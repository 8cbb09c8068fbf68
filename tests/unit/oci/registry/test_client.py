from __future__ import annotations

import base64
import hashlib
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import anyio
import pytest

from drydock.errors import RegistryError, UsageError
from drydock.oci import registry
from drydock.oci.registry import Credentials
from drydock.oci.registry.client import parse_error_codes, parse_retry_after
from tests.support.http_server import Request, Response, serve

MANIFEST = b'{"schemaVersion": 2}'
DIGEST = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"
LOGIN = Credentials("someone", "s3cret")
BASIC = f"Basic {base64.b64encode(b'someone:s3cret').decode()}"


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited, in seconds; nobody really does."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(anyio, "sleep", sleep)
    return waited


def asked(
    answer: Callable[[Request], Response | None],
    login: Credentials | None = None,
    told: list[str] | None = None,
    reference: str = "1.2.3",
) -> str | None:
    async def ask(host: str) -> str | None:
        on_retry = (told if told is not None else []).append
        async with registry.open_repository(f"{host}/owner/name", login, on_retry) as repository:
            return await repository.get_digest(reference)

    with serve(answer) as host:
        return anyio.run(ask, host)


def test_the_digest_is_computed_from_the_bytes_that_are_served() -> None:
    seen: list[Request] = []

    def answer(request: Request) -> Response:
        seen.append(request)
        # What a registry, or a proxy before it, says of itself is not believed.
        return Response(200, MANIFEST, {"Docker-Content-Digest": "sha256:other"})

    assert asked(answer) == DIGEST
    assert seen[0].path == "/v2/owner/name/manifests/1.2.3"
    assert "application/vnd.oci.image.manifest.v1+json" in seen[0].headers["Accept"]


def test_a_tag_that_is_not_there_is_none() -> None:
    assert asked(lambda _: Response(404)) is None


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (Response(500), "answered 500 to GET manifest"),
        (Response(502), "answered 502 to GET manifest"),
        (Response(503), "answered 503 to GET manifest"),
        (Response(504), "answered 504 to GET manifest"),
        (Response(429, b'{"errors": [{"code": "TOOMANYREQUESTS"}]}'), "answered 429 TOOMANYREQUESTS to GET manifest"),
        (None, "cut the connection at GET manifest"),
    ],
)
def test_what_may_pass_is_tried_again_and_told(first: Response | None, said: str, waits: list[float]) -> None:
    answers = [first, first, Response(200, MANIFEST)]
    hosts: list[str] = []
    told: list[str] = []

    def answer(request: Request) -> Response | None:
        hosts.append(request.headers["Host"])
        return answers.pop(0)

    assert asked(answer, told=told) == DIGEST
    assert told == [f"{hosts[0]} {said}; try 2 of 5", f"{hosts[0]} {said}; try 3 of 5"]
    assert len(waits) == 2


def test_trying_again_has_an_end() -> None:
    seen: list[Request] = []

    def answer(request: Request) -> Response:
        seen.append(request)
        return Response(503)

    with pytest.raises(RegistryError, match=r"^127\.0\.0\.1:[0-9]+ answered 503 to GET manifest, 5 times$") as broken:
        asked(answer)
    assert broken.value.exit_code == 6
    assert len(seen) == registry.ATTEMPTS == 5


def test_a_registry_that_says_when_to_come_again_is_heeded_within_bounds(waits: list[float]) -> None:
    answers = [Response(429, headers={"Retry-After": "7"}), Response(503, headers={"Retry-After": "3600"})]
    assert asked(lambda _: answers.pop(0) if answers else Response(200, MANIFEST)) == DIGEST
    assert waits == [7, 20]


def test_all_waits_together_are_bounded_too(waits: list[float]) -> None:
    with pytest.raises(RegistryError, match="answered 503 to GET manifest, 4 times"):
        asked(lambda _: Response(503, headers={"Retry-After": "19"}))
    assert waits == [19, 19, 19]


def test_when_to_come_again_is_a_number_a_date_or_nothing() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    assert parse_retry_after("120") == 120
    assert 3500 < parse_retry_after(soon) <= 3600
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert [parse_retry_after(header) for header in ("", "soon", "-5", "²")] == [0, 0, 0, 0]


def test_only_codes_are_repeated_of_what_a_registry_says() -> None:
    assert parse_error_codes(b'{"errors": [{"code": "DENIED", "message": "s3cret"}, {"code": "DENIED"}]}') == ["DENIED"]
    for words in (b"", b"<html>", b"[]", b'{"errors": 1}', b'{"errors": [{"code": "s3cret"}, {"code": 1}]}'):
        assert parse_error_codes(words) == []


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_asked_once_and_the_password_is_not_repeated(status: int) -> None:
    seen: list[Request] = []

    def answer(request: Request) -> Response:
        seen.append(request)
        return Response(status, f'{{"errors": [{{"code": "DENIED", "message": "{BASIC} s3cret"}}]}}'.encode())

    with pytest.raises(RegistryError) as refused:
        asked(answer, LOGIN)
    assert f"answered {status} DENIED to GET manifest of owner/name" in refused.value.message
    assert len(seen) == 1
    everything = (
        f"{refused.value.message}{refused.value.likely_cause}{refused.value.next_step}{refused.value.log}{LOGIN!r}"
    )
    assert "s3cret" not in everything
    assert BASIC.removeprefix("Basic ") not in everything


def test_a_registry_that_asks_for_a_password_gets_it() -> None:
    def answer(request: Request) -> Response:
        if request.headers.get("Authorization") == BASIC:
            return Response(200, MANIFEST)
        return Response(401, headers={"WWW-Authenticate": 'Basic realm="here"'})

    assert asked(answer, LOGIN) == DIGEST
    with pytest.raises(RegistryError, match="answered 401"):
        asked(answer, Credentials("someone", "wrong"))


@pytest.mark.parametrize("login", [LOGIN, None])
def test_a_registry_that_sends_us_for_a_token_gets_one(login: Credentials | None) -> None:
    seen: list[Request] = []

    def answer(request: Request) -> Response:
        seen.append(request)
        if request.path.startswith("/token"):
            return Response(200, b'{"token": "t0ken"}')
        if request.headers.get("Authorization") == "Bearer t0ken":
            return Response(200, MANIFEST)
        realm = f"http://{request.headers['Host']}/token"
        return Response(401, headers={"WWW-Authenticate": f'Bearer realm="{realm}",service="here"'})

    assert asked(answer, login) == DIGEST
    token = next(request for request in seen if request.path.startswith("/token"))
    assert token.path == "/token?service=here&scope=repository%3Aowner%2Fname%3Apull"
    assert token.headers.get("Authorization") == (BASIC if login else None)


def test_where_nobody_listens_the_next_step_is_to_start_one_or_not_to_push() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(RegistryError) as silent:
        anyio.run(registry.require_answer, f"{host}/name")
    assert silent.value.message.startswith(f"no registry answers at {host}: ")
    assert silent.value.exit_code == 6
    assert silent.value.next_step == (
        "drydock bootstrap starts the local one; --no-push leaves the image in the report directory instead"
    )


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("localhost", "http://localhost"),
        ("localhost:80", "http://localhost:80"),
        ("ghcr.io", "https://ghcr.io"),
        ("10.0.0.1:5000", "https://10.0.0.1:5000"),
        ("localhost.evil.example", "https://localhost.evil.example"),
    ],
)
def test_only_a_registry_on_this_machine_is_asked_without_tls(host: str, url: str) -> None:
    assert registry.get_base_url(host) == url


def test_credentials_come_whole_or_not_at_all_and_are_of_one_host() -> None:
    both = {"DRYDOCK_REGISTRY_USER": "someone", "DRYDOCK_REGISTRY_PASSWORD": "s3cret"}
    ours = Credentials("someone", "s3cret", "ghcr.io")
    assert registry.read_credentials(both, "ghcr.io") == ours
    assert registry.read_credentials({**both, "DRYDOCK_REGISTRY_HOST": "ghcr.io"}, "other.example") == ours
    assert registry.read_credentials({**both, "DRYDOCK_REGISTRY_PASSWORD": ""}, "ghcr.io") is None
    assert registry.read_credentials({}, "ghcr.io") is None


def test_the_credentials_of_a_source_name_their_host() -> None:
    both = {"DRYDOCK_SOURCE_USER": "someone", "DRYDOCK_SOURCE_PASSWORD": "s3cret"}
    theirs = Credentials("someone", "s3cret", "staging.example")
    assert registry.read_source_credentials({**both, "DRYDOCK_SOURCE_HOST": "staging.example"}) == theirs
    assert registry.read_source_credentials({}) is None
    with pytest.raises(UsageError, match=r"^DRYDOCK_SOURCE_USER is set, and DRYDOCK_SOURCE_HOST is not$"):
        registry.read_source_credentials(both)


def test_credentials_are_for_their_host_alone() -> None:
    hub, ours = Credentials("a", "b", "docker.io"), Credentials("c", "d", "127.0.0.1:5000")
    assert registry.choose_login("registry-1.docker.io/owner/name", ours, hub) == hub
    assert registry.choose_login("127.0.0.1:5000/name", None, hub, ours) == ours
    assert registry.choose_login("127.0.0.1:5001/name", ours, hub) is None
    assert registry.choose_login("GHCR.io/name", Credentials("a", "b", "ghcr.io")) == Credentials("a", "b", "ghcr.io")


@pytest.mark.parametrize("challenge", ['Basic realm="here"', 'Bearer realm="http://{}/token"'])
def test_a_registry_never_gets_the_credentials_of_another(challenge: str) -> None:
    seen: list[Request] = []

    def answer(request: Request) -> Response:
        seen.append(request)
        if request.path.startswith("/token"):
            return Response(200, b'{"token": "t0ken"}')
        return Response(401, headers={"WWW-Authenticate": challenge.format(request.headers["Host"])})

    with pytest.raises(RegistryError, match="answered 401") as refused:
        asked(answer, replace(LOGIN, host="staging.example"))
    assert {request.headers.get("Authorization") for request in seen} <= {None, "Bearer t0ken"}
    assert (
        refused.value.likely_cause == "the credentials here are those of staging.example, and go to no other registry"
    )


@pytest.mark.parametrize("host", ["256.1.1.1", "xn--"])
def test_a_host_of_a_form_that_no_address_has_does_not_answer(host: str) -> None:
    async def digest() -> None:
        async with registry.open_repository(f"{host}/name", None) as repository:
            await repository.get_digest("1.2.3")

    with pytest.raises(RegistryError, match=f"no registry answers at {host}: "):
        anyio.run(registry.require_answer, f"{host}/name")
    with pytest.raises(RegistryError, match=f"no registry answers at {host}: "):
        anyio.run(digest)


@pytest.mark.parametrize("answered", [b"<html>", b"[]", b"{}", b'{"token": ""}', b'{"token": 1}'])
def test_a_token_server_that_gives_no_token_is_named(answered: bytes) -> None:
    def answer(request: Request) -> Response:
        return Response(200, answered) if request.path.startswith("/token") else bearer(request)

    with pytest.raises(RegistryError, match=r"sent us to 127\.0\.0\.1 for a token, and that gave none"):
        asked(answer)


def test_a_token_server_that_refuses_is_asked_once() -> None:
    seen: list[str] = []

    def answer(request: Request) -> Response:
        seen.append(request.path.partition("?")[0])
        return Response(401) if request.path.startswith("/token") else bearer(request)

    with pytest.raises(RegistryError, match="answered 401 to GET token of owner/name"):
        asked(answer, LOGIN)
    assert seen == ["/v2/owner/name/manifests/1.2.3", "/token"]


def test_a_token_server_that_is_busy_is_asked_again() -> None:
    answers = [Response(503), Response(200, b'{"access_token": "t0ken"}')]

    def answer(request: Request) -> Response:
        if request.path.startswith("/token"):
            return answers.pop(0)
        return Response(200, MANIFEST) if request.headers.get("Authorization") == "Bearer t0ken" else bearer(request)

    assert asked(answer) == DIGEST


@pytest.mark.parametrize("realm", ["http://elsewhere.example/token", "ftp://127.0.0.2/token", "", "http://["])
def test_no_password_goes_where_it_would_be_read(realm: str) -> None:
    seen: list[Request] = []

    def answer(request: Request) -> Response:
        seen.append(request)
        return Response(401, headers={"WWW-Authenticate": f'Bearer realm="{realm}"'})

    with pytest.raises(RegistryError):
        asked(answer, LOGIN)
    assert len(seen) == 1


def test_writing_asks_for_the_right_to_write_and_keeps_the_token() -> None:
    seen: list[str] = []
    manifest = registry.Manifest(DIGEST, "application/vnd.oci.image.manifest.v1+json", MANIFEST)

    def answer(request: Request) -> Response:
        seen.append(f"{request.method} {request.path.partition('?')[2] or request.path.rpartition('/')[2]}")
        if request.path.startswith("/token"):
            return Response(200, b'{"token": "t0ken"}')
        if "Authorization" not in request.headers:
            return bearer(request)
        return Response(201 if request.method == "PUT" else 404)

    async def put(host: str) -> None:
        async with registry.open_repository(f"{host}/owner/name", LOGIN) as repository:
            assert await repository.get_digest("1.2.3") is None
            assert await repository.get_digest("1.2.3") is None
            await repository.put_manifest(manifest, "1.2.3")

    with serve(answer) as host:
        anyio.run(put, host)
    pull, push = (f"GET service=here&scope=repository%3Aowner%2Fname%3A{what}" for what in ("pull", "pull%2Cpush"))
    assert seen == ["GET 1.2.3", pull, "GET 1.2.3", "GET 1.2.3", "PUT 1.2.3", push, "PUT 1.2.3"]


def test_a_registry_that_names_a_scope_gets_it_asked_for() -> None:
    seen: list[str] = []

    def answer(request: Request) -> Response:
        seen.append(request.path)
        if request.path.startswith("/token"):
            return Response(200, b'{"token": "t0ken"}')
        return Response(200, MANIFEST) if "Authorization" in request.headers else bearer(request, ',scope="library:x"')

    assert asked(answer) == DIGEST
    assert seen[1] == "/token?service=here&scope=library%3Ax"


def test_a_storage_elsewhere_gets_no_password() -> None:
    content = b"of a blob"
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    seen: list[dict[str, str]] = []

    def stored(request: Request) -> Response:
        seen.append(request.headers)
        return Response(200, content)

    async def ask(host: str) -> bytes:
        async with registry.open_repository(f"{host}/owner/name", LOGIN) as repository:
            return await repository.get_blob(digest)

    with serve(stored) as elsewhere:

        def answer(request: Request) -> Response:
            if "Authorization" not in request.headers:
                return Response(401, headers={"WWW-Authenticate": 'Basic realm="here"'})
            return Response(307, headers={"Location": f"http://{elsewhere}/of-the-blob"})

        with serve(answer) as host:
            assert anyio.run(ask, host) == content
    assert ["Authorization" in headers for headers in seen] == [False]


def bearer(request: Request, more: str = "") -> Response:
    realm = f"http://{request.headers['Host']}/token"
    return Response(401, headers={"WWW-Authenticate": f'Bearer realm="{realm}",service="here"{more}'})
