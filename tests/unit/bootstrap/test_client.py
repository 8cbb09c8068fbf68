"""The Dagger CLI that runs beside the credentials of a run is the very file that is pinned, or there is none."""

from __future__ import annotations

import hashlib
import io
import platform
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from drydock.bootstrap import client, modes
from drydock.bootstrap.binaries import ENGINE_VERSION
from drydock.bootstrap.cache import Cache
from drydock.errors import EngineError
from tests.unit.bootstrap.conftest import FakePrograms, web_server

NEXT_STEP = f"set _EXPERIMENTAL_DAGGER_CLI_BIN to a dagger v{ENGINE_VERSION} that you trust, then run again"
HAS_THE_ENGINE = '[ "$2" != inspect ] || [ "$1" = image ]'


def archive(name: str = "dagger", words: bytes = b"#!/bin/sh\necho dagger\n") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(words)
        tar.addfile(member, io.BytesIO(words))
    return packed.getvalue()


@contextmanager
def released(
    monkeypatch: pytest.MonkeyPatch, served: bytes, pinned: bytes | None = None, status: int = 200
) -> Iterator[list[str]]:
    """A host of releases that serves one archive, while another one may be pinned; the paths that were asked for."""
    paths: list[str] = []
    with web_server(status, body=served, paths=paths) as host:
        monkeypatch.setattr(client, "RELEASES", f"http://{host}/dagger/releases")
        digest = hashlib.sha256(served if pinned is None else pinned).hexdigest()
        monkeypatch.setattr(client, "SHA256", {"linux_amd64": digest, "darwin_arm64": digest})
        yield paths


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")


def test_the_client_that_is_pinned_is_downloaded_once(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    with released(monkeypatch, archive()) as paths:
        program = client.download_cli(cache)
        assert client.download_cli(cache) == program == client.cli_path(cache)
    assert paths == ["/dagger/releases/0.19.10/dagger_v0.19.10_linux_amd64.tar.gz"]
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == "dagger\n"


def test_another_machine_gets_another_client(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    with released(monkeypatch, archive()) as paths:
        client.download_cli(cache)
    assert paths == ["/dagger/releases/0.19.10/dagger_v0.19.10_darwin_arm64.tar.gz"]


def test_another_file_than_the_pinned_one_is_never_kept(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    served, pinned = archive(words=b"something else"), archive()
    with released(monkeypatch, served, pinned), pytest.raises(EngineError) as refused:
        client.download_cli(cache)
    assert refused.value.message == (
        f"{client.RELEASES}/0.19.10/dagger_v0.19.10_linux_amd64.tar.gz is not the pinned Dagger CLI: "
        f"its sha256 is {hashlib.sha256(served).hexdigest()}, not {hashlib.sha256(pinned).hexdigest()}"
    )
    assert refused.value.next_step == NEXT_STEP
    assert not client.cli_path(cache).exists()


def test_an_archive_without_the_program_is_named(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        released(monkeypatch, archive("another")),
        pytest.raises(EngineError, match="has no program named dagger"),
    ):
        client.download_cli(cache)


@pytest.mark.parametrize(("status", "reason"), [(404, "404 Not Found"), (503, "503 Service Unavailable")])
def test_a_host_that_does_not_serve_it_is_named(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, status: int, reason: str
) -> None:
    with released(monkeypatch, archive(), status=status), pytest.raises(EngineError) as refused:
        client.download_cli(cache)
    assert refused.value.message.startswith("the Dagger CLI could not be downloaded: ")
    assert reason in refused.value.message
    assert refused.value.next_step == NEXT_STEP


def test_a_machine_of_another_kind_is_told_to_bring_its_own(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(EngineError) as refused:
        client.download_cli(cache)
    assert (refused.value.message, refused.value.next_step) == ("no Dagger CLI for linux_riscv64 is pinned", NEXT_STEP)


def test_a_machine_with_docker_gets_it_and_a_shell_is_told(
    cache: Cache, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs.add("docker", HAS_THE_ENGINE)
    with released(monkeypatch, archive()):
        assert modes.up(cache, {}) == "docker"
        lines = modes.shell_exports(cache, {})
    assert f"export _EXPERIMENTAL_DAGGER_CLI_BIN={client.cli_path(cache)}\n" in lines


def test_a_client_that_the_environment_names_is_left(
    cache: Cache, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs.add("docker", HAS_THE_ENGINE)
    with released(monkeypatch, archive()) as paths:
        modes.up(cache, {"_EXPERIMENTAL_DAGGER_CLI_BIN": "/opt/dagger"})
    assert paths == []
    assert "CLI_BIN" not in modes.shell_exports(cache, {})


def test_each_kind_of_machine_with_official_images_has_its_hash() -> None:
    assert all(len(digest) == 64 for digest in client.SHA256.values())
    assert set(client.SHA256) == {"linux_amd64", "linux_arm64", "darwin_amd64", "darwin_arm64"}
