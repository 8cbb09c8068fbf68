"""The claim on which a digest rests: the same commit is the same bytes, whichever engine builds it, from nothing."""

from __future__ import annotations

from tests.integration.engine.project import Project
from tests.integration.engine.second_engine import SecondEngine


def test_two_engines_that_share_nothing_build_one_digest(shipped: Project, engine: SecondEngine) -> None:
    """The second engine knows nothing; the first has built all that it knows by itself."""
    engine.start(empty=True)
    runs = {
        "from nothing": shipped.run("--no-push", environment=engine.environment),
        "at home": shipped.run("--no-push"),
    }
    digests = set()
    for name, finished in runs.items():
        assert finished.exit_code == 0, finished.output
        digests.add(finished.report["image"]["manifest_digest"])
        print(f"{name}: {finished.report['image']['manifest_digest']}")
    assert len(digests) == 1
