from __future__ import annotations

import base64
import hashlib
import socket
from collections.abc import Callable
from functools import partial

import anyio
import pytest
from tenacity import wait_none

import registry
from errors import RegistryError
from registry import Credentials
from tests.ci.server import Request, Response, serving

MANIFEST = b'{"schemaVersion": 2}'
DIGEST = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"
LOGIN = Credentials("someone", "s3cret")
BASIC = f"Basic {base64.b64encode(b'someone:s3cret').decode()}"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "wait_random_exponential", lambda **_: wait_none())


def asked(answer: Callable[[Request], Response | None], login: Credentials | None = None) -> str | None:
    with serving(answer) as host:
        return anyio.run(partial(registry.manifest_digest, f"{host}/owner/name", "1.2.3", login))


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


@pytest.mark.parametrize("first", [Response(503), Response(429), Response(500), None])
def test_what_may_pass_is_tried_again(first: Response | None) -> None:
    answers = [first, first, Response(200, MANIFEST)]
    assert asked(lambda _: answers.pop(0)) == DIGEST


def test_trying_again_has_an_end() -> None:
    seen: list[Request] = []

    def answer(request: Request) -> Response:
        seen.append(request)
        return Response(503)

    with pytest.raises(RegistryError, match=r"no registry answers at 127\.0\.0\.1:[0-9]+: HTTP 503"):
        asked(answer)
    assert len(seen) == registry.ATTEMPTS


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_asked_once_and_the_password_is_not_repeated(status: int) -> None:
    seen: list[Request] = []

    def answer(request: Request) -> Response:
        seen.append(request)
        return Response(status)

    with pytest.raises(RegistryError) as refused:
        asked(answer, LOGIN)
    assert f"answered {status} when asked for owner/name:1.2.3" in refused.value.what
    assert len(seen) == 1
    assert "s3cret" not in f"{refused.value.what}{refused.value.next_step}{LOGIN!r}"


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
    assert silent.value.what.startswith(f"no registry answers at {host}: ")
    assert silent.value.exit_code == 6
    assert silent.value.next_step == (
        "python -m bootstrap starts the local one; --no-push leaves the image in the report directory instead"
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
    assert registry.base_url(host) == url


def test_credentials_come_whole_or_not_at_all() -> None:
    both = {"DRYDOCK_REGISTRY_USER": "someone", "DRYDOCK_REGISTRY_PASSWORD": "s3cret"}
    assert registry.credentials(both) == LOGIN
    assert registry.credentials({**both, "DRYDOCK_REGISTRY_PASSWORD": ""}) is None
    assert registry.credentials({}) is None


@pytest.mark.parametrize("host", ["256.1.1.1", "xn--"])
def test_a_host_of_a_form_that_no_address_has_does_not_answer(host: str) -> None:
    with pytest.raises(RegistryError, match=f"no registry answers at {host}: "):
        anyio.run(registry.require_answer, f"{host}/name")
    with pytest.raises(RegistryError, match=f"no registry answers at {host}: "):
        anyio.run(registry.manifest_digest, f"{host}/name", "1.2.3", None)


def test_a_token_server_that_says_something_else_is_no_registry() -> None:
    def answer(request: Request) -> Response:
        realm = f'Bearer realm="http://{request.headers["Host"]}/token"'
        return (
            Response(200, b"<html>")
            if request.path.startswith("/token")
            else Response(401, b"", {"WWW-Authenticate": realm})
        )

    with pytest.raises(RegistryError, match="no registry answers at "):
        asked(answer)
