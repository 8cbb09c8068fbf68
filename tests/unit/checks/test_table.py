from __future__ import annotations

from pathlib import Path

import pytest

from drydock import checks
from drydock.checks import Facts
from drydock.errors import UsageError
from drydock.policy import Policy
from drydock.report import MB, Verdict
from tests.support import examples

# What checks say of a good image.
GOOD = {
    "answers /predict as trained": ("2 of 2 rows", "2"),
    "model is good enough": ("accuracy 0.95 (0.86 to 1) on 38 rows", ">= 0.95"),
    "answers as before": ("2 of 40 changed, shift 0.021", "5 %, shift 0.1"),
    "schema as before": ("0 changes", "0"),
    "starts in time": ("1.2 s", "30 s"),
    "answers in time": ("median 4 ms, slowest 4 ms", "100 ms"),
    "refuses malformed requests": ("2 of 2 with 4xx", "2"),
    "runs as non-root": ("USER 10001:10001, uid 10001", "not 0"),
    "image size": ("270 MB", "500 MB"),
    "largest layer": ("150 MB", "200 MB"),
    "wasted space": ("0 MB", "20 MB"),
    "scanner covers every package": ("2 locked, 78 of debian 13.1", "2 locked"),
    "scanner passes its self-test": ("1 of 1 hidden", "1"),
    "advisories are recent": ("12 h old", "48 h"),
    "HIGH or CRITICAL": ("0 in 80 packages", "0"),
    "no expired or unused ignores": ("0 of 0 in use", "0"),
    "no security update pending": ("0 pending", "0"),
    "secrets in the image": ("0 found", "0"),
}


def test_a_good_image_passes_every_check_and_is_approved_by_its_manifest(tmp_path: Path) -> None:
    facts = examples.facts()
    rows = checks.judge(facts, examples.policy(quality={"min": {"accuracy": 0.95}}))
    assert [row.name for row in rows] == [check.name for check in checks.CHECKS]
    measured = {row.name: (row.measured, row.limit) for row in rows}
    assert {name: measured[name] for name in GOOD} == GOOD
    assert {(row.verdict, row.details) for row in rows} == {(Verdict.PASS, ())}
    archive = examples.archive(tmp_path / "image.tar")
    approval = checks.approve(archive, facts, rows)
    assert approval == checks.Approval(archive, examples.MANIFEST_DIGEST)


def test_missing_facts_are_never_a_pass_and_say_why() -> None:
    facts = Facts(image=examples.image(), reasons={"smoke": "the engine went away"})
    verdicts = {judged.name: (judged.verdict, judged.details) for judged in checks.judge(facts, Policy())}
    assert verdicts["answers /predict as trained"] == (Verdict.NOT_RUN, ("the engine went away",))
    assert verdicts["HIGH or CRITICAL"] == (Verdict.NOT_RUN, ("smoke broke before it",))
    assert verdicts["image size"][0] is Verdict.PASS


def test_a_skipped_check_says_the_policys_reason() -> None:
    skipped = examples.policy(skip={"largest layer": "the CUDA runtime is one file"})
    judged = examples.judge(
        "largest layer", Facts(image=examples.image(examples.BASE.model_copy(update={"size_bytes": 900 * MB}))), skipped
    )
    assert (judged.verdict, judged.details) == (Verdict.SKIP, ("the CUDA runtime is one file",))


def test_only_a_check_of_the_house_can_be_skipped() -> None:
    with pytest.raises(UsageError) as refused:
        checks.require_known_skips(examples.policy(skip={"larges layer": "it is large"}))
    assert (refused.value.message, refused.value.likely_cause) == (
        "skip: there is no check 'larges layer' to skip",
        "did you mean 'largest layer'?",
    )


def test_the_stages_whose_facts_are_missing_say_why_each_check_was_not_made() -> None:
    reasons = {"engine": "gone", "coverage": "the canary was missed", "pending-updates": "no engine"}
    rows = {row.name: row for row in checks.judge(Facts(reasons=reasons), Policy())}
    assert {row.verdict for row in rows.values()} == {Verdict.NOT_RUN}
    assert {name: row.details for name, row in rows.items()} == {
        **dict.fromkeys(rows, ("engine broke before it",)),
        "scanner covers every package": ("the canary was missed",),
        "scanner passes its self-test": ("the canary was missed",),
        "advisories are recent": ("the canary was missed",),
        "HIGH or CRITICAL": ("the canary was missed",),
        "no expired or unused ignores": ("the canary was missed",),
        "secrets in the image": ("the canary was missed",),
        "no security update pending": ("no engine",),
    }
    assert {row.details for row in checks.judge(Facts(), Policy())} == {("the run ended before it",)}
