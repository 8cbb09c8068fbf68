from __future__ import annotations

from pathlib import Path

import pytest

from drydock import checks
from drydock.checks import Facts
from drydock.report import CheckResult, Verdict
from tests.support import examples


@pytest.mark.parametrize("verdict", [Verdict.WARN, Verdict.SKIP])
def test_a_row_that_warns_or_was_skipped_lets_an_image_through_beside_one_that_passes(
    verdict: Verdict, tmp_path: Path
) -> None:
    archive = examples.archive(tmp_path)
    rows = [CheckResult(name="a", measured="", limit="", verdict=each) for each in (verdict, Verdict.PASS)]
    assert checks.approve(archive, examples.facts(), rows)
    assert checks.approve(archive, examples.facts(), rows[:1]) is None


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.NOT_RUN])
def test_one_row_that_does_not_pass_is_no_approval(verdict: Verdict, tmp_path: Path) -> None:
    archive = examples.archive(tmp_path)
    rows = [
        CheckResult(name="a", measured="", limit="", verdict=each) for each in (Verdict.PASS, verdict, Verdict.PASS)
    ]
    assert checks.approve(archive, examples.facts(), rows) is None


def test_nothing_judged_is_no_approval(tmp_path: Path) -> None:
    archive = examples.archive(tmp_path)
    skipped = [CheckResult(name="a", measured="", limit="", verdict=Verdict.SKIP)]
    passed = [CheckResult(name="a", measured="", limit="", verdict=Verdict.PASS)]
    assert checks.approve(archive, examples.facts(), []) is None
    assert checks.approve(archive, examples.facts(), skipped) is None
    assert checks.approve(archive, Facts(), passed) is None
    assert checks.approve(archive, examples.facts(), skipped + passed) is not None


def test_a_run_in_which_a_stage_broke_approves_nothing_whatever_is_skipped(tmp_path: Path) -> None:
    facts = examples.facts()
    facts.reasons = {"scan": "no database"}
    rows = [CheckResult(name="a", measured="", limit="", verdict=each) for each in (Verdict.SKIP, Verdict.PASS)]
    assert checks.approve(examples.archive(tmp_path), facts, rows) is None
