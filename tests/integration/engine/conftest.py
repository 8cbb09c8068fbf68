from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.engine.project import REPOSITORY_ROOT, Finished, Project
from tests.integration.engine.second_engine import SecondEngine, second_engine

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("engine")


@pytest.fixture(autouse=True, scope="session")
def _engine() -> None:
    assert os.environ.get("_EXPERIMENTAL_DAGGER_RUNNER_HOST"), "no engine is named here; make test starts one"


@pytest.fixture
def tiny(tmp_path: Path) -> Project:
    """A model image in miniature, in a folder that a test may break."""
    return in_miniature(tmp_path / "tiny")


def in_miniature(root: Path) -> Project:
    """The image in miniature, in a folder and a repository of its own."""
    shutil.copytree(HERE / "tiny", root)
    return Project(root, f"test-{uuid.uuid4().hex[:12]}")


def copied(root: Path) -> Project:
    """The image that this repository ships, in a folder of its own."""
    for folder in ("requirements", "service", "export", "training"):
        shutil.copytree(REPOSITORY_ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in ("Dockerfile", ".dockerignore", "pipeline.toml"):
        shutil.copy(REPOSITORY_ROOT / name, root / name)
    return Project(root, f"test-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def shipped(tmp_path: Path) -> Project:
    return copied(tmp_path / "shipped")


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The shipped image's project, unbroken; whoever changes a file of it takes a copy."""
    return copied(tmp_path_factory.mktemp("good") / "shipped")


@pytest.fixture(scope="session")
def good(project: Project) -> Finished:
    """One run of it for all the questions about it: those who ask share a worker, the group "shipped image"."""
    return project.run()


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecondEngine]:
    """An engine that may be emptied and killed; those who use it share a worker, the group "second engine"."""
    with second_engine(tmp_path_factory.mktemp("engine") / "second") as started:
        yield started
