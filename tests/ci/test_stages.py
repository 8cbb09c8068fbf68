"""What `stages` does without an engine; tests/engine has the rest."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import anyio
import dagger
import pytest
from dagger._exceptions import QueryErrorValue
from gql import GraphQLRequest

import smoke as conversation
import stages
from errors import EngineError
from report import Updates
from stages import archives, running, session, signer
from tests.ci import examples
from tests.ci.server import Response, serving


@pytest.mark.parametrize("address", ["unix://{}/none.sock", "tcp://127.0.0.1:{}", "tcp://127.0.0.1:none"])
def test_an_engine_that_does_not_answer_is_said_at_once(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    named = address.format(tmp_path if address.startswith("unix") else port)
    monkeypatch.setenv("_EXPERIMENTAL_DAGGER_RUNNER_HOST", named)

    async def connected() -> None:
        async with stages.connect(examples.plan(tmp_path)):
            raise AssertionError("somebody answered")

    with pytest.raises(EngineError) as silent:
        anyio.run(connected)
    assert silent.value.what.startswith(f"no engine answers at {named}: ")
    assert silent.value.next_step.startswith("make run starts one")


def test_an_engine_that_takes_a_call_and_stays_silent_is_no_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = tmp_path / "dagger"
    client.write_text("#!/bin/sh\nexec sleep 600\n")
    client.chmod(0o755)
    address = f"unix://{tmp_path}/silent.sock"
    monkeypatch.setenv("_EXPERIMENTAL_DAGGER_CLI_BIN", str(client))
    monkeypatch.setenv("_EXPERIMENTAL_DAGGER_RUNNER_HOST", address)
    monkeypatch.delenv("DAGGER_SESSION_PORT", raising=False)
    monkeypatch.setattr(session, "START_SECONDS", 0.1)

    async def connected() -> None:
        async with stages.connect(examples.plan(tmp_path)):
            raise AssertionError("somebody answered")

    with socket.socket(socket.AF_UNIX) as silent, pytest.raises(EngineError) as refused:
        silent.bind(f"{tmp_path}/silent.sock")
        silent.listen()
        anyio.run(connected)
    assert refused.value.what == f"the engine at {address} was silent for 0.1 s"
    assert refused.value.next_step.startswith("make run starts one")


def test_a_client_lives_as_long_as_its_engine_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "PROBE_SECONDS", 0.01)
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as engine, subprocess.Popen(["sleep", "600"]) as client:
        engine.bind(str(path))
        engine.listen()
        try:
            with session.client_dies_with_engine(f"unix://{path}"):
                for _ in range(3):
                    engine.accept()[0].close()
                assert client.poll() is None
                path.unlink()
                # Raises TimeoutExpired.
                assert client.wait(timeout=10) == -signal.SIGKILL
        finally:
            client.kill()


class Unasked:
    """An image's container, in which nothing can be asked: each question ends in `error`."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def with_user(self, name: str) -> Unasked:
        return self

    def with_env_variable(self, name: str, value: str) -> Unasked:
        return self

    def with_exec(self, arguments: list[str], **options: object) -> Unasked:
        return self

    async def exit_code(self) -> int:
        raise self.error

    async def stdout(self) -> str:
        raise self.error


def asked_for_updates(error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Updates:
    monkeypatch.setattr(archives, "container", lambda *_: Unasked(error))
    plan = examples.plan(tmp_path)
    return anyio.run(stages.EngineStages(plan, print).updates, examples.archive(tmp_path))


@pytest.mark.parametrize(
    ("error", "why_not"),
    [
        (
            dagger.QueryError([QueryErrorValue("exec: sh: not found\nmore")], GraphQLRequest("{ container { id } }")),
            "the image has no shell to ask in: exec: sh: not found",
        ),
        (TimeoutError(), "apt-get took longer than scan.timeout_seconds"),
    ],
)
def test_an_image_that_cannot_be_asked_for_its_updates_is_no_broken_engine(
    error: BaseException, why_not: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asked_for_updates(error, tmp_path, monkeypatch) == Updates(why_not=why_not)


def test_an_engine_that_goes_away_while_an_image_is_asked_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = dagger.TransportError("gone")
    with pytest.raises(EngineError, match="the engine did not answer: gone"):
        asked_for_updates(gone, tmp_path, monkeypatch)
    with pytest.raises(EngineError, match="the engine did not answer: gone"):
        anyio.run(
            stages.EngineStages(examples.plan(tmp_path), print).smoke, examples.archive(tmp_path), examples.CONTRACT
        )


class Tunnel:
    """A tunnel to whatever listens at `url`, and the container and the service that it leads to."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __getattr__(self, name: str) -> Callable[..., Tunnel]:
        return lambda *_, **__: self

    async def start(self) -> Tunnel:
        return self

    async def endpoint(self, scheme: str) -> str:
        return self.url

    async def stop(self, kill: bool) -> None: ...

    async def stdout(self) -> str:
        return f"{conversation.SOCKETS}\n"

    async def stderr(self) -> str:
        return "no model here"

    async def exit_code(self) -> int:
        return 0

    async def entrypoint(self) -> list[str]:
        return ["serve"]

    async def default_args(self) -> list[str]:
        return []


def test_an_image_that_never_gets_ready_says_why_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = examples.plan(tmp_path, policy=examples.policy(limits={"start_seconds": 1}))
    with serving(lambda _: Response(503, b"the first golden row is wrong")) as host:
        tunnel = Tunnel(f"http://{host}")
        monkeypatch.setattr(archives, "container", lambda *_: tunnel)
        monkeypatch.setattr(running, "dag", tunnel)
        smoked = anyio.run(stages.EngineStages(plan, print).smoke, examples.archive(tmp_path), examples.CONTRACT)
    assert (smoked.ready_seconds, smoked.uid, smoked.answers, smoked.log) == (None, None, (), "no model here")
    assert smoked.not_ready == (
        "/readyz answered 503: the first golden row is wrong; it was running after 5 s, and did not listen on port 8000"
    )


@pytest.mark.parametrize(
    ("repository", "inside", "host", "port"),
    [
        ("127.0.0.1:5000/owner/name", "registry:5000/owner/name", "127.0.0.1", 5000),
        ("localhost/name", "registry:80/name", "localhost", 80),
        ("ghcr.io/owner/name", "ghcr.io/owner/name", "ghcr.io", None),
        ("registry.example:5000/name", "registry.example:5000/name", "registry.example:5000", None),
    ],
)
def test_only_a_registry_of_this_machine_has_another_name_inside(
    repository: str, inside: str, host: str, port: int | None
) -> None:
    place = signer._Place.of(repository)
    assert (place.repository, place.host, place.port, place.is_local) == (inside, host, port, port is not None)
