"""The claim on which a digest rests: the same commit is the same bytes, whichever engine builds it, from nothing."""

from __future__ import annotations

import pytest

from tests.engine.project import Project
from tests.engine.second_engine import SecondEngine

pytestmark = pytest.mark.xdist_group("second engine")


def test_two_engines_that_share_nothing_build_one_digest(shipped: Project, engine: SecondEngine) -> None:
    digests = []
    for number in (1, 2):
        engine.start(empty=True)
        finished = shipped.run("--no-push", environment=engine.environment)
        assert finished.exit_code == 0, finished.output
        digests.append(finished.report["image"]["manifest_digest"])
        print(f"engine {number}, from nothing: {digests[-1]}")
    assert digests[0] == digests[1]
