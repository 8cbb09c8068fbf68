"""A machine of fakes: every program that bootstrap calls is a script, and nothing of the real machine is used."""

from __future__ import annotations

import io
import os
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from drydock.bootstrap import processes, services
from drydock.bootstrap.cache import Cache
from drydock.bootstrap.processes import CommandRunner
from tests.support.http_server import Request, Response, serve

REPOSITORY_ROOT = Path(__file__).parents[3]
# No test may reach the real ones: an engine and a registry may be at work on this machine.
PROGRAMS = ("apt-config", "apt-get", "docker", "docker-registry", "go", "mmdebstrap", "podman", "runc")
# What a shell that evaluated `drydock bootstrap env`, a proxy or a colour setting would bring along.
FOREIGN_VARIABLES = (
    *("_EXPERIMENTAL_DAGGER_RUNNER_HOST", "_EXPERIMENTAL_DAGGER_CLI_BIN", "DRYDOCK_IMAGES", "DRYDOCK_CACHE"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "COSIGN_KEY", "ACTIONS_ID_TOKEN_REQUEST_URL"),
    *("GITHUB_ACTIONS", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"),
)


class FakePrograms:
    """Shell scripts that come first on PATH; each records its call, then does what the test wrote."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "bin"
        self.path.mkdir()
        self._notes = directory / "calls"

    def add(self, name: str, script: str = "", *, folder: Path | None = None) -> Path:
        program = (folder or self.path) / name
        # Tabs keep the words apart that have spaces in them; one write a call, since two may come at the same time.
        note = f"line='{name}'; for word; do line=\"$line\t$word\"; done; printf '%s\\n' \"$line\" >>'{self._notes}'"
        program.write_text(f"#!/bin/sh\n{note}\n{script}\n")
        program.chmod(0o755)
        return program

    def remove(self, *names: str) -> None:
        for name in names:
            (self.path / name).unlink()

    def calls(self) -> list[list[str]]:
        """All calls since the last call of this method, in order, word by word."""
        if not self._notes.exists():
            return []
        calls = [line.split("\t") for line in self._notes.read_text().splitlines()]
        self._notes.unlink()
        return calls

    def words(self) -> list[str]:
        """The same calls, one line each, where no word has a space in it."""
        return [" ".join(call) for call in self.calls()]


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePrograms:
    """Every program is there and fails; a test says which one answers, and how."""
    made = FakePrograms(tmp_path)
    for name in PROGRAMS:
        made.add(name, "exit 1")
    for variable in FOREIGN_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", f"{made.path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DRYDOCK_CACHE", str(tmp_path / "cache"))
    # One that is there already, so that none is downloaded.
    monkeypatch.setenv("_EXPERIMENTAL_DAGGER_CLI_BIN", str(tmp_path / "dagger"))
    # Should a test ever get as far as pip, it goes no further.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    # urllib remembers the proxies of its first call.
    monkeypatch.setattr(urllib.request, "_opener", None)
    monkeypatch.setattr(processes, "ADMIN_COMMANDS", tmp_path / "sbin")
    monkeypatch.setattr(services, "REGISTRY", f"127.0.0.1:{free_port()}")
    monkeypatch.setattr(services, "CA_CERTIFICATES", tmp_path / "ca-certificates")
    return made


@pytest.fixture
def nothing_installed(programs: FakePrograms, monkeypatch: pytest.MonkeyPatch) -> None:
    """PATH has the programs that a test adds, and nothing else."""
    programs.remove(*PROGRAMS)
    monkeypatch.setenv("PATH", str(programs.path))


@pytest.fixture
def said() -> io.StringIO:
    """What bootstrap printed."""
    return io.StringIO()


@pytest.fixture
def cache(tmp_path: Path, said: io.StringIO) -> Cache:
    return Cache(tmp_path / "cache", CommandRunner(Console(file=said, width=200)))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def web_server(
    status: int, headers: dict[str, str] | None = None, body: bytes = b"", paths: list[str] | None = None
) -> AbstractContextManager[str]:
    """A server that answers everything with `status` and notes the `paths` that it is asked for; its address."""

    def answer(request: Request) -> Response:
        if paths is not None:
            paths.append(request.path)
        return Response(status, body, headers or {})

    return serve(answer)


@contextmanager
def listener(path: Path) -> Iterator[None]:
    """Somebody who listens at a socket, as an engine does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(path))
        engine.listen()
        yield


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
