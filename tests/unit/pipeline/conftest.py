"""The registries that the tests of published images share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import anyio
import pytest

from drydock.oci import registry
from drydock.oci.registry import Credentials, Repository
from tests.integration.registry import program, proxy
from tests.integration.registry.proxy import Door
from tests.support.published_images import Noon, Registries


@pytest.fixture(scope="session")
def hosts() -> Iterator[tuple[str, str]]:
    with program.running() as (here, _), program.running() as (there, _):
        yield here, there


numbers = itertools.count()


@pytest.fixture
def registries(hosts: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registries:
    name = f"owner/name-{next(numbers)}"
    registries = Registries(f"{hosts[0]}/{name}", f"{hosts[1]}/{name}", tmp_path / "dist")
    registries.folder.mkdir()
    open_repository = registry.open_repository

    def record_and_open(
        repository: str, login: Credentials | None, on_retry: Callable[[str], None]
    ) -> AbstractAsyncContextManager[Repository]:
        registries.opened_repositories.append((repository, login))
        return open_repository(repository, login, on_retry)

    async def skip_sleep(_: float) -> None: ...

    monkeypatch.setattr(registry, "open_repository", record_and_open)
    monkeypatch.setattr("drydock.pipeline.verify.datetime", Noon)
    # Of two runs that push a version at the same moment each waits for the other; here is one.
    monkeypatch.setattr(anyio, "sleep", skip_sleep)
    return registries


@pytest.fixture
def door(registries: Registries) -> Iterator[Door]:
    """A proxy before the other registry, which can break requests."""
    host, _, name = registries.there.partition("/")
    with proxy.before(host) as door:
        registries.there = f"{door.host}/{name}"
        yield door
