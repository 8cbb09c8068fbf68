"""The claim on which a digest rests: the same commit is the same bytes, whichever engine builds it, from nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from bootstrap import cache, services
from bootstrap.cache import Cache
from bootstrap.tools import Watcher, output
from tests.engine.project import REPOSITORY_ROOT, Project


@contextmanager
def an_engine_that_knows_nothing(root: Path) -> Iterator[dict[str, str]]:
    """An engine with an empty state directory, in place of the usual one, which is back afterwards."""
    image = output(["podman", "inspect", "--format", "{{.ImageName}}", services.ENGINE])
    assert image
    root.mkdir()
    try:
        services.start_engine(Cache(root, Watcher(Console(stderr=True))), image)
        yield {"_EXPERIMENTAL_DAGGER_RUNNER_HOST": f"unix://{services.socket_path(root)}"}
    finally:
        services.stop_engine()
        shutil.rmtree(root)
        subprocess.run([sys.executable, "-m", "bootstrap"], check=True, capture_output=True, cwd=REPOSITORY_ROOT)


def test_two_engines_that_share_nothing_build_one_digest(shipped: Project) -> None:
    if (cache.root(os.environ) / "world").read_text() != "stand-in":
        pytest.skip("only an engine of ours can be exchanged; on GitHub each nightly run has a new one")
    digests = []
    for number in (1, 2):
        with an_engine_that_knows_nothing(shipped.root.parent / f"engine-{number}") as environment:
            finished = shipped.run("--no-push", environment=environment)
        assert finished.exit_code == 0, finished.output
        digests.append(finished.report["image"]["manifest_digest"])
        print(f"engine {number}, from nothing: {digests[-1]}")
    assert digests[0] == digests[1]
