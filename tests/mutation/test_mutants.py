"""Each mutant is caught by its own gate and no other, for its own reason, and nothing of it is in the registry."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from drydock import checks
from tests.mutation.mutants import BLIND, GOOD, MUTANTS, PUBLISHED, Mutant, caught_by, reason

# All that a run leaves for people and tools, but for the engine's own log.
TEXTS = (".html", ".json", ".md", ".sarif", ".txt")


@pytest.mark.engine
def test_the_image_in_miniature_is_published_if_nothing_is_broken(tmp_path: Path) -> None:
    """Without it, the mutants could be red for any reason. The shipped image's twin is in test_good_run."""
    project = next(good for good in GOOD if not good.shipped).project(tmp_path / "good")
    finished = project.run()
    assert caught_by(finished) == PUBLISHED, finished.output
    assert project.names() == ["test"]


@pytest.mark.engine
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_caught_by_its_own_gate(mutant: Mutant, tmp_path: Path) -> None:
    project = mutant.project(tmp_path / "mutant")
    finished = project.run()
    assert caught_by(finished) == mutant.gate, finished.output
    assert mutant.unsaid(reason(finished)) == []
    assert project.tags() == []
    assert "Traceback" not in finished.output
    left = [path.read_text() for path in finished.report_dir.iterdir() if path.suffix in TEXTS]
    assert not [words for words in (finished.output, *left) if re.search(r"ghp_\w{36}", words)]
    if mutant.gate != BLIND:
        project.assert_rejected(finished, mutant.gate)


def test_every_gate_that_can_reject_has_a_mutant() -> None:
    """Those of the scanner's own health end a run without a verdict, and latency is only told."""
    told = {"answers in time"}
    blind = {"scanner covers every package", "scanner passes its self-test", "advisories are recent"}
    gates = {check.name for check in checks.CHECKS} - told - blind
    assert gates == {mutant.gate for mutant in MUTANTS} - {BLIND}
