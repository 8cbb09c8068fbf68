from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.docker import machine as machines
from tests.integration.docker.machine import Machine
from tests.integration.engine.conftest import copied, in_miniature
from tests.integration.engine.project import Project

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("docker")
            item.add_marker("engine")


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with machines.with_docker() as machine:
        yield machine


@pytest.fixture
def tiny(tmp_path: Path) -> Project:
    return in_miniature(tmp_path / "tiny")


@pytest.fixture
def shipped(tmp_path: Path) -> Project:
    return copied(tmp_path / "shipped")
