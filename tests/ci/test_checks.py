from __future__ import annotations

from pathlib import Path

import pytest

import checks
from checks import Facts
from config import Policy
from errors import UsageError
from report import MB, Answer, Contributor, Layer, Row, Secret, Verdict
from tests.ci import examples

NAMES = [
    "answers /predict as trained",
    "refuses a malformed request",
    "runs as non-root",
    "image size",
    "largest layer",
    "scanner saw what is inside",
    "HIGH or CRITICAL",
    "secrets in the image",
]


def row(name: str, facts: Facts, policy: Policy | None = None) -> Row:
    return next(row for row in checks.judge(facts, policy or Policy()) if row.name == name)


def layer(size_bytes: int) -> Layer:
    return Layer(
        digest="sha256:1",
        created_by="RUN make data",
        compressed_bytes=1,
        size_bytes=size_bytes,
        largest=(Contributor(name="/data", size_bytes=size_bytes),),
    )


def test_a_good_image_passes_every_check_and_is_approved_by_its_manifest(tmp_path: Path) -> None:
    facts = examples.facts()
    rows = checks.judge(facts, Policy())
    assert [(row.name, row.verdict) for row in rows] == [(name, Verdict.PASS) for name in NAMES]
    archive = examples.archive(tmp_path / "image.tar")
    approval = checks.approve(archive, facts.image, rows)
    assert approval == checks.Approval(archive, examples.MANIFEST_DIGEST)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (examples.answer(examples.SMALL, "large"), "row [1.0, 2.0]: expected small, got large"),
        (
            examples.answer(examples.SMALL, probabilities={"small": 0.74, "large": 0.26}),
            "row [1.0, 2.0]: expected probabilities {'small': 0.75, 'large': 0.25}, got {'small': 0.74, 'large': 0.26}",
        ),
        (
            examples.answer(examples.SMALL, probabilities={"small": 0.75}),
            "row [1.0, 2.0]: expected probabilities {'small': 0.75, 'large': 0.25}, got {'small': 0.75}",
        ),
        (
            examples.answer(examples.SMALL, probabilities={"small": float("nan"), "large": 0.25}),
            "row [1.0, 2.0]: expected probabilities {'small': 0.75, 'large': 0.25}, got {'small': nan, 'large': 0.25}",
        ),
        (examples.answer(examples.SMALL, status=500), "row [1.0, 2.0]: expected small, got HTTP 500"),
        (examples.answer(examples.SMALL, status=0), "row [1.0, 2.0]: expected small, got no answer"),
    ],
)
def test_a_wrong_answer_shows_expected_beside_got(answer: Answer, why: str) -> None:
    judged = row(NAMES[0], Facts(smoke=examples.smoke(answer, examples.answer(examples.LARGE))))
    assert (judged.verdict, judged.measured, judged.limit) == (Verdict.FAIL, "1 of 2 rows", "2")
    assert judged.details == (why,)


def test_a_probability_within_the_contracts_tolerance_is_right() -> None:
    close = examples.answer(examples.SMALL, probabilities={"small": 0.75 + 9e-7, "large": 0.25 - 9e-7})
    assert row(NAMES[0], Facts(smoke=examples.smoke(close))).verdict is Verdict.PASS


def test_a_container_that_never_got_ready_shows_the_tail_of_its_log() -> None:
    log = "\n".join(f"line {number}" for number in range(100))
    smoke = examples.smoke(ready_seconds=None, not_ready="it ended with exit code 1", log=log)
    judged = row(NAMES[0], Facts(smoke=smoke), examples.policy(limits={"log_lines": 2}))
    assert (judged.verdict, judged.measured, judged.limit) == (Verdict.FAIL, "not ready", "60 s")
    assert judged.details == ("it ended with exit code 1", "line 98", "line 99")


@pytest.mark.parametrize(
    ("status", "verdict", "measured"),
    [
        (400, Verdict.PASS, "HTTP 400"),
        (422, Verdict.PASS, "HTTP 422"),
        (200, Verdict.FAIL, "HTTP 200"),
        (500, Verdict.FAIL, "HTTP 500"),
        (0, Verdict.FAIL, "no answer"),
    ],
)
def test_a_malformed_request_is_the_callers_fault(status: int, verdict: Verdict, measured: str) -> None:
    judged = row("refuses a malformed request", Facts(smoke=examples.smoke(malformed_status=status)))
    assert (judged.verdict, judged.measured, judged.limit) == (verdict, measured, "4xx")


@pytest.mark.parametrize(
    ("user", "uid", "verdict", "measured"),
    [
        ("10001", 10001, Verdict.PASS, "USER 10001, uid 10001"),
        ("10001:0", 10001, Verdict.PASS, "USER 10001:0, uid 10001"),
        ("", 0, Verdict.FAIL, "USER not set, uid 0"),
        ("root", 0, Verdict.FAIL, "USER root, uid 0"),
        ("0", 0, Verdict.FAIL, "USER 0, uid 0"),
        ("0:0", 0, Verdict.FAIL, "USER 0:0, uid 0"),
        ("00", 0, Verdict.FAIL, "USER 00, uid 0"),
        # A name that is uid 0 in the image's passwd, and one that is not: neither can be proved from outside.
        ("toor", 0, Verdict.FAIL, "USER toor, uid 0"),
        ("app", 10001, Verdict.FAIL, "USER app, uid 10001"),
        # The configuration says one thing, the process is another.
        ("10001", 0, Verdict.FAIL, "USER 10001, uid 0"),
        ("10001", None, Verdict.FAIL, "USER 10001, uid unknown"),
    ],
)
def test_only_a_number_other_than_0_is_not_root(user: str, uid: int | None, verdict: Verdict, measured: str) -> None:
    judged = row("runs as non-root", Facts(image=examples.image(user=user), smoke=examples.smoke(uid=uid)))
    assert (judged.verdict, judged.measured, judged.limit) == (verdict, measured, "not 0")
    cure = ("end the Dockerfile with a numeric user other than 0, such as USER 10001:10001",)
    assert judged.details == (cure if verdict is Verdict.FAIL else ())


@pytest.mark.parametrize(
    ("size_bytes", "verdict", "measured"),
    [
        (499_999_999, Verdict.PASS, "500 MB"),
        (500 * MB, Verdict.PASS, "500 MB"),
        (500 * MB + 1, Verdict.FAIL, "500,000,001 bytes"),
        (512 * MB, Verdict.FAIL, "512 MB"),
    ],
)
def test_the_image_may_have_500_mb_and_not_a_byte_more(size_bytes: int, verdict: Verdict, measured: str) -> None:
    judged = row("image size", Facts(image=examples.image(layer(100 * MB), layer(size_bytes - 100 * MB))))
    assert (judged.verdict, judged.measured, judged.limit) == (verdict, measured, "500 MB")
    assert bool(judged.details) == (verdict is Verdict.FAIL)


@pytest.mark.parametrize(
    ("size_bytes", "verdict", "measured"),
    [
        (200 * MB, Verdict.PASS, "200 MB"),
        (200 * MB + 1, Verdict.FAIL, "200,000,001 bytes"),
        (231 * MB, Verdict.FAIL, "231 MB"),
    ],
)
def test_a_layer_may_have_200_mb_and_not_a_byte_more(size_bytes: int, verdict: Verdict, measured: str) -> None:
    judged = row("largest layer", Facts(image=examples.image(layer(5), layer(size_bytes), layer(7))))
    assert (judged.verdict, judged.measured, judged.limit) == (verdict, measured, "200 MB")


def test_what_is_too_large_names_its_biggest_contributors() -> None:
    facts = Facts(image=examples.image(examples.BASE, examples.DEPENDENCIES))
    policy = examples.policy(limits={"layer_size_mb": 100, "image_size_mb": 200})
    assert row("largest layer", facts, policy).details == (
        "COPY /layers/rest/ /: scipy 93 MB, sklearn 52 MB. Split the layer, or drop some of it.",
    )
    assert row("image size", facts, policy).details == ("largest: scipy 93 MB, sklearn 52 MB",)


def test_what_is_too_large_in_small_pieces_names_none_of_them() -> None:
    crumbs = layer(201 * MB).model_copy(update={"largest": (Contributor(name="/a", size_bytes=499_999),)})
    judged = row("largest layer", Facts(image=examples.image(crumbs)))
    assert judged.details == ("RUN make data: many small files. Split the layer, or drop some of it.",)


def test_a_finding_names_its_package_and_its_cure() -> None:
    judged = row("HIGH or CRITICAL", Facts(scan=examples.scan([examples.HIGH])))
    assert (judged.verdict, judged.measured, judged.limit) == (Verdict.FAIL, "1 in 80 packages", "0")
    assert judged.details == ("CVE-2024-24762 HIGH python-multipart 0.0.6, fixed in 0.0.7",)


@pytest.mark.parametrize("severity", ["UNKNOWN", "LOW", "MEDIUM"])
def test_a_lesser_finding_does_not_reject_unless_the_policy_says_so(severity: str) -> None:
    facts = Facts(scan=examples.scan([examples.HIGH.model_copy(update={"severity": severity})]))
    assert row("HIGH or CRITICAL", facts).verdict is Verdict.PASS
    assert row("HIGH or CRITICAL", facts, examples.policy(scan={"severities": [severity]})).verdict is Verdict.FAIL


def test_the_policy_decides_about_a_finding_without_a_fix_and_it_is_named_either_way() -> None:
    facts = Facts(scan=examples.scan([examples.UNFIXED]))
    listed = row("HIGH or CRITICAL", facts)
    assert (listed.verdict, listed.details) == (
        Verdict.PASS,
        ("1 more without a fix yet, listed in report.json",),
    )
    counted = row("HIGH or CRITICAL", facts, examples.policy(scan={"unfixed": "reject"}))
    assert (counted.verdict, counted.details) == (Verdict.FAIL, ("CVE-2025-1 CRITICAL libc6 2.41, no fix yet",))


def test_a_secret_is_named_by_its_rule_and_place() -> None:
    found = Secret(rule="aws-access-key-id", target="/app/config.env", severity="CRITICAL")
    judged = row("secrets in the image", Facts(scan=examples.scan(secrets=[found])))
    assert (judged.verdict, judged.measured, judged.details) == (
        Verdict.FAIL,
        "1 found",
        ("aws-access-key-id in /app/config.env",),
    )


def test_missing_facts_are_never_a_pass_and_say_why() -> None:
    facts = Facts(image=examples.image(), reasons={"smoke": "the engine went away"})
    verdicts = {judged.name: (judged.verdict, judged.details) for judged in checks.judge(facts, Policy())}
    assert verdicts["answers /predict as trained"] == (Verdict.NOT_RUN, ("the engine went away",))
    assert verdicts["HIGH or CRITICAL"] == (Verdict.NOT_RUN, ("smoke broke before it",))
    assert verdicts["image size"][0] is Verdict.PASS


def test_a_skipped_check_says_the_policys_reason() -> None:
    skipped = examples.policy(skip={"largest layer": "the CUDA runtime is one file"})
    judged = row("largest layer", Facts(image=examples.image(layer(900 * MB))), skipped)
    assert (judged.verdict, judged.details) == (Verdict.SKIP, ("the CUDA runtime is one file",))


def test_only_a_check_of_the_house_can_be_skipped() -> None:
    with pytest.raises(UsageError) as refused:
        checks.require_known_skips(examples.policy(skip={"larges layer": "it is large"}))
    assert (refused.value.what, refused.value.usually) == (
        "skip: there is no check 'larges layer' to skip",
        "did you mean 'largest layer'?",
    )


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.NOT_RUN])
def test_one_row_that_does_not_pass_is_no_approval(verdict: Verdict, tmp_path: Path) -> None:
    archive = examples.archive(tmp_path)
    rows = [Row(name="a", measured="", limit="", verdict=each) for each in (Verdict.PASS, verdict, Verdict.PASS)]
    assert checks.approve(archive, examples.image(), rows) is None


def test_nothing_judged_is_no_approval(tmp_path: Path) -> None:
    archive = examples.archive(tmp_path)
    skipped = [Row(name="a", measured="", limit="", verdict=Verdict.SKIP)]
    passed = [Row(name="a", measured="", limit="", verdict=Verdict.PASS)]
    assert checks.approve(archive, examples.image(), []) is None
    assert checks.approve(archive, examples.image(), skipped) is None
    assert checks.approve(archive, None, passed) is None
    assert checks.approve(archive, examples.image(), skipped + passed) is not None
