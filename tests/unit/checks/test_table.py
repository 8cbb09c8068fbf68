from __future__ import annotations

import math
from datetime import date
from pathlib import Path

import pytest

from drydock import checks
from drydock.checks import Facts, findings
from drydock.errors import UsageError
from drydock.policy import Policy
from drydock.report import (
    MB,
    Answer,
    Canary,
    CheckResult,
    Contributor,
    Finding,
    Ignore,
    IgnoreState,
    Layer,
    Malformed,
    Scan,
    Secret,
    Updates,
    Verdict,
    Waste,
)
from tests.support import examples

# Every check, and what it says of a good image.
GOOD = {
    "answers /predict as trained": ("2 of 2 rows", "2"),
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
ANSWERS = "answers /predict as trained"


def row(name: str, facts: Facts, policy: Policy | None = None) -> CheckResult:
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
    assert {row.name: (row.measured, row.limit) for row in rows} == GOOD
    assert {(row.verdict, row.details) for row in rows} == {(Verdict.PASS, ())}
    archive = examples.archive(tmp_path / "image.tar")
    approval = checks.approve(archive, facts, rows)
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
            examples.answer(examples.SMALL, probabilities={"small": 0.75, "large": 0.25, "huge": 0.0}),
            "row [1.0, 2.0]: expected probabilities {'small': 0.75, 'large': 0.25}, "
            "got {'small': 0.75, 'large': 0.25, 'huge': 0.0}",
        ),
        (
            Answer(expected=examples.SMALL, status=200),
            "row [1.0, 2.0]: expected small, got an answer of another form",
        ),
        (examples.answer(examples.SMALL, status=500), "row [1.0, 2.0]: expected small, got HTTP 500"),
        (examples.answer(examples.SMALL, status=0), "row [1.0, 2.0]: expected small, got no answer"),
    ],
)
def test_a_wrong_answer_shows_expected_beside_got(answer: Answer, why: str) -> None:
    judged = row(ANSWERS, Facts(smoke=examples.smoke(answer, examples.answer(examples.LARGE))))
    assert (judged.verdict, judged.measured, judged.limit) == (Verdict.FAIL, "1 of 2 rows", "2")
    assert judged.details == (why,)


def test_a_probability_within_the_contracts_tolerance_is_right() -> None:
    close = examples.answer(examples.SMALL, probabilities={"small": 0.75 + 9e-7, "large": 0.25 - 9e-7})
    assert row(ANSWERS, Facts(smoke=examples.smoke(close))).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (examples.value_answer(examples.CHEAP, 250.0), "row [1.0, 2.0]: expected 181.3, got 250.0"),
        (examples.value_answer(examples.CHEAP, -181.3), "row [1.0, 2.0]: expected 181.3, got -181.3"),
        (examples.value_answer(examples.CHEAP, 183.0), "row [1.0, 2.0]: expected 181.3, got 183.0"),
        (
            examples.value_answer(examples.CHEAP, 0.0).model_copy(update={"value": math.nan}),
            "row [1.0, 2.0]: expected 181.3, got nan",
        ),
        (examples.value_answer(examples.CHEAP, None), "row [1.0, 2.0]: expected 181.3, got an answer of another form"),
        (examples.value_answer(examples.CHEAP, None, status=500), "row [1.0, 2.0]: expected 181.3, got HTTP 500"),
        (examples.value_answer(examples.CHEAP, None, status=0), "row [1.0, 2.0]: expected 181.3, got no answer"),
    ],
)
def test_a_wrong_value_shows_expected_beside_got(answer: Answer, why: str) -> None:
    smoke = examples.smoke(answer, examples.value_answer(examples.DEAR, -20.0), tolerance=1.5)
    judged = row(ANSWERS, Facts(smoke=smoke))
    assert (judged.verdict, judged.measured, judged.details) == (Verdict.FAIL, "1 of 2 rows", (why,))


@pytest.mark.parametrize("value", [181.3, 182.5, 180.0])
def test_a_value_within_the_contracts_tolerance_is_right(value: float) -> None:
    smoke = examples.smoke(examples.value_answer(examples.CHEAP, value), tolerance=1.5)
    assert row(ANSWERS, Facts(smoke=smoke)).verdict is Verdict.PASS


def test_a_value_of_0_is_an_answer_like_any_other() -> None:
    nothing = examples.CHEAP.model_copy(update={"value": 0.0})
    right = examples.smoke(examples.value_answer(nothing, 0.0), tolerance=0.0)
    assert row(ANSWERS, Facts(smoke=right)).verdict is Verdict.PASS
    wrong = examples.smoke(examples.value_answer(nothing, 1.0), tolerance=0.0)
    assert row(ANSWERS, Facts(smoke=wrong)).details == ("row [1.0, 2.0]: expected 0.0, got 1.0",)


def test_of_a_long_text_in_a_row_only_its_beginning_is_shown() -> None:
    long = examples.OPEN.model_copy(update={"features": ("a" * 40, 2.0, "it's " + "b" * 36)})
    judged = row(ANSWERS, Facts(smoke=examples.smoke(examples.answer(long, "later"))))
    shown = f"""['{"a" * 40}', 2.0, "it's {"b" * 34}…"]"""
    assert judged.details == (f"row {shown}: expected urgent, got later",)


def test_a_container_that_never_got_ready_shows_the_tail_of_its_log() -> None:
    log = "\n".join(f"line {number}" for number in range(100))
    smoke = examples.smoke(ready_seconds=None, not_ready="it ended with exit code 1", log=log)
    judged = row(ANSWERS, Facts(smoke=smoke), examples.policy(limits={"log_lines": 2}))
    assert (judged.verdict, judged.measured, judged.limit) == (Verdict.FAIL, "not ready", "60 s")
    assert judged.details == ("it ended with exit code 1", "line 98", "line 99")


def test_a_container_that_never_got_ready_is_one_fault_and_one_red_row() -> None:
    facts = examples.facts()
    facts.smoke = examples.smoke(ready_seconds=None, not_ready="it ended with exit code 1")
    rows = {row.name: (row.verdict, row.measured, row.limit, row.details) for row in checks.judge(facts, Policy())}
    unasked = (Verdict.NOT_RUN, "", "", ("the image never became ready",))
    assert rows["starts in time"] == rows["answers in time"] == rows["refuses malformed requests"] == unasked
    assert [name for name, (verdict, *_) in rows.items() if verdict is Verdict.FAIL] == [ANSWERS]
    assert rows["runs as non-root"][0] is Verdict.PASS


def test_a_run_without_a_golden_row_proves_nothing() -> None:
    nothing = examples.smoke(malformed=()).model_copy(update={"answers": ()})
    rows = {row.name: (row.verdict, row.measured) for row in checks.judge(Facts(smoke=nothing), Policy())}
    assert rows[ANSWERS] == (Verdict.FAIL, "0 of 0 rows")
    assert rows["answers in time"] == (Verdict.NOT_RUN, "")
    assert rows["refuses malformed requests"] == (Verdict.FAIL, "0 of 0 with 4xx")


@pytest.mark.parametrize(
    ("ready_seconds", "verdict", "measured"),
    [(0.0, Verdict.PASS, "0 s"), (30.0, Verdict.PASS, "30 s"), (30.1, Verdict.FAIL, "30.1 s")],
)
def test_a_container_may_take_30_s_to_get_ready_and_no_longer(
    ready_seconds: float, verdict: Verdict, measured: str
) -> None:
    facts = examples.facts()
    facts.smoke = examples.smoke(ready_seconds=ready_seconds)
    judged = row("starts in time", facts)
    assert (judged.verdict, judged.measured, judged.limit) == (verdict, measured, "30 s")
    cause = "the imports or the model take this long to load, or the machine is busy"
    words = f"{cause}: measure again, load less, or raise limits.ready_seconds"
    assert judged.details == ((words,) if verdict is Verdict.FAIL else ())
    others = {each.verdict for each in checks.judge(facts, Policy()) if each.name != "starts in time"}
    assert others == {Verdict.PASS}
    assert row("starts in time", facts, examples.policy(limits={"ready_seconds": 31})).verdict is Verdict.PASS


def test_only_three_wrong_answers_are_shown() -> None:
    wrong = [examples.answer(examples.SMALL, status=500)] * 5
    assert len(row(ANSWERS, Facts(smoke=examples.smoke(*wrong))).details) == 3


@pytest.mark.parametrize(
    ("seconds", "verdict", "measured"),
    [
        ((0.004, 0.1, 0.006), Verdict.PASS, "median 6 ms, slowest 100 ms"),
        ((0.004, 0.101, 0.006), Verdict.WARN, "median 6 ms, slowest 101 ms"),
        ((0.004, 0.008), Verdict.PASS, "median 6 ms, slowest 8 ms"),
    ],
)
def test_an_answer_over_the_budget_is_told_and_does_not_reject(
    seconds: tuple[float, ...], verdict: Verdict, measured: str, tmp_path: Path
) -> None:
    timed = [examples.answer(examples.SMALL).model_copy(update={"duration_seconds": each}) for each in seconds]
    facts = examples.facts()
    facts.smoke = examples.smoke(*timed)
    judged = row("answers in time", facts)
    assert (judged.verdict, judged.measured, judged.limit) == (verdict, measured, "100 ms")
    words = "the machine may be busy: measure again, or raise limits.latency_ms"
    assert judged.details == ((words,) if verdict is Verdict.WARN else ())
    assert checks.approve(examples.archive(tmp_path), facts, checks.judge(facts, Policy()))


def test_no_answer_at_all_is_no_fast_one() -> None:
    silent = Facts(smoke=examples.smoke(examples.answer(examples.SMALL, status=0)))
    judged = row("answers in time", silent)
    assert (judged.verdict, judged.measured, judged.details) == (Verdict.NOT_RUN, "", ("the image answered nothing",))


@pytest.mark.parametrize(
    ("status", "verdict", "measured", "details"),
    [
        (400, Verdict.PASS, "2 of 2 with 4xx", ()),
        (499, Verdict.PASS, "2 of 2 with 4xx", ()),
        (399, Verdict.FAIL, "1 of 2 with 4xx", ("cut short: HTTP 399",)),
        (200, Verdict.FAIL, "1 of 2 with 4xx", ("cut short: HTTP 200",)),
        (500, Verdict.FAIL, "1 of 2 with 4xx", ("cut short: HTTP 500",)),
        (0, Verdict.FAIL, "1 of 2 with 4xx", ("cut short: no answer",)),
    ],
)
def test_a_malformed_request_is_the_callers_fault(
    status: int, verdict: Verdict, measured: str, details: tuple[str, ...]
) -> None:
    malformed = (Malformed(name="cut short", status=status), Malformed(name="GET", status=405))
    judged = row("refuses malformed requests", Facts(smoke=examples.smoke(malformed=malformed)))
    assert (judged.verdict, judged.measured, judged.limit, judged.details) == (verdict, measured, "2", details)


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
        ("app", None, Verdict.FAIL, "USER app, uid unknown"),
        ("9" * 5_000, 10001, Verdict.PASS, f"USER {'9' * 5_000}, uid 10001"),
    ],
)
def test_only_a_number_other_than_0_is_not_root(user: str, uid: int | None, verdict: Verdict, measured: str) -> None:
    judged = row("runs as non-root", Facts(image=examples.image(user=user), smoke=examples.smoke(uid=uid)))
    assert (judged.verdict, judged.measured, judged.limit) == (verdict, measured, "not 0")
    cure = ("end the Dockerfile with a numeric user other than 0, such as USER 10001:10001",)
    assert judged.details == (cure if verdict is Verdict.FAIL else ())


def test_a_uid_that_could_not_be_asked_is_not_the_users_number_to_mend() -> None:
    judged = row("runs as non-root", Facts(image=examples.image(user="10001"), smoke=examples.smoke(uid=None)))
    assert (judged.verdict, judged.measured) == (Verdict.FAIL, "USER 10001, uid unknown")
    assert judged.details == (
        "its uid at run time is unknown: keep `id` in the image, and check that this user can start a process",
    )


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


def test_a_layer_that_is_too_large_names_the_line_that_made_it() -> None:
    large = layer(201 * MB).model_copy(update={"dockerfile_line": 14})
    judged = row("largest layer", Facts(image=examples.image(large)))
    assert judged.details[0].startswith("RUN make data (Dockerfile:14): ")
    assert judged.location == "Dockerfile:14"
    assert row("largest layer", Facts(image=examples.image(layer(5)))).location == ""


def test_what_is_too_large_in_small_pieces_names_none_of_them() -> None:
    crumbs = layer(201 * MB).model_copy(update={"largest": (Contributor(name="/a", size_bytes=499_999),)})
    judged = row("largest layer", Facts(image=examples.image(crumbs)))
    assert judged.details == ("RUN make data: many small files. Split the layer, or drop some of it.",)


def test_an_image_without_a_layer_is_no_small_one() -> None:
    judged = row("largest layer", Facts(image=examples.image().model_copy(update={"layers": ()})))
    assert (judged.verdict, judged.measured, judged.limit) == (Verdict.FAIL, "no layers", "200 MB")
    assert judged.details == ("there is nothing in the image",)


def test_a_layer_that_no_instruction_is_known_of_is_said_so() -> None:
    judged = row("largest layer", Facts(image=examples.image(layer(201 * MB).model_copy(update={"created_by": ""}))))
    assert judged.details == (
        "an instruction that the image does not name: /data 201 MB. Split the layer, or drop some of it.",
    )


def test_an_image_that_is_too_large_names_its_waste_and_one_that_is_not_does_not() -> None:
    waste = (
        Waste(path="srv/train.csv", size_bytes=40 * MB, layer=2, why="removed"),
        Waste(path="app/model.pkl", size_bytes=9 * MB, layer=2, why="duplicate"),
        Waste(path="etc/passwd", size_bytes=1_000, layer=1, why="replaced"),
    )
    image = examples.image().model_copy(update={"waste": waste})
    small = examples.policy(limits={"image_size_mb": 200})
    assert row("image size", Facts(image=image), small).details == (
        "largest: scipy 93 MB, sklearn 52 MB",
        "waste: /srv/train.csv removed 40 MB, /app/model.pkl duplicate 9 MB",
    )
    crumbs = image.model_copy(update={"waste": waste[2:]})
    assert row("image size", Facts(image=crumbs), small).details[1] == "waste: many small files"
    assert row("image size", Facts(image=image)).details == ()


@pytest.mark.parametrize(
    ("scan", "measured"),
    [
        (examples.scan(python_packages={"fastapi": "0.115.0"}), "1 locked, 78 of debian 13.1"),
        (examples.scan(python_packages={**examples.LOCKED, "numpy": "2.1.1"}), "1 locked, 78 of debian 13.1"),
        (examples.scan(os_family="", os_packages=0), "2 locked, 0 of no system"),
    ],
)
def test_a_scan_that_saw_less_never_passes(scan: Scan, measured: str) -> None:
    judged = row("scanner covers every package", Facts(scan=scan))
    assert (judged.verdict, judged.measured, judged.limit) == (Verdict.FAIL, measured, "2 locked")


@pytest.mark.parametrize(
    ("canary", "measured", "limit"),
    [
        (Canary(expected=("a in b", "c in d"), found=("c in d",)), "1 of 2 hidden", "2"),
        (Canary(expected=("a in b",), found=()), "0 of 1 hidden", "1"),
        # Where nothing was hidden nothing was proved.
        (Canary(expected=(), found=()), "0 of 0 hidden", "0"),
    ],
)
def test_a_scanner_that_passes_over_the_canary_never_passes(canary: Canary, measured: str, limit: str) -> None:
    judged = row("scanner passes its self-test", Facts(scan=examples.scan(canary=canary)))
    assert (judged.verdict, judged.measured, judged.limit) == (Verdict.FAIL, measured, limit)


@pytest.mark.parametrize(
    ("scanned_at", "verdict", "measured"),
    [
        ("2026-11-22T00:00:00+00:00", Verdict.PASS, "0 h old"),
        ("2026-11-23T00:00:00+00:00", Verdict.PASS, "24 h old"),
        ("2026-11-23T00:00:01+00:00", Verdict.WARN, "24 h old"),
        ("2026-11-24T00:00:00+00:00", Verdict.WARN, "48 h old"),
        ("2026-11-24T00:00:01+00:00", Verdict.FAIL, "48 h old"),
        ("2026-11-24T23:00:00+00:00", Verdict.FAIL, "71 h old"),
        ("2026-11-25T00:00:00+00:00", Verdict.FAIL, "3 days old"),
    ],
)
def test_advisories_grow_old(scanned_at: str, verdict: Verdict, measured: str) -> None:
    judged = row("advisories are recent", Facts(scan=examples.scan(scanned_at=scanned_at)))
    assert (judged.verdict, judged.measured, judged.limit) == (verdict, measured, "48 h")
    words = "older than 24 h: mirror.gcr.io/aquasec/trivy-db:2 was not renewed"
    assert judged.details == ((words,) if verdict is Verdict.WARN else ())


@pytest.mark.parametrize(
    ("scanned_at", "measured"),
    [("2026-11-22T12:00:00+00:00", "12 h old"), ("2027-11-22T12:00:00+00:00", "366 days old")],
)
def test_a_sample_is_never_recent_however_new_it_is(scanned_at: str, measured: str) -> None:
    judged = row("advisories are recent", Facts(scan=examples.scan(database_is_sample=True, scanned_at=scanned_at)))
    assert (judged.verdict, judged.measured, judged.limit) == (Verdict.WARN, measured, "none")
    assert judged.details == (
        "a small sample database: it says little about the image, and the result cannot be a release",
    )


def test_a_finding_names_its_package_and_its_cure() -> None:
    judged = row("HIGH or CRITICAL", Facts(scan=examples.scan([examples.HIGH])))
    assert (judged.verdict, judged.measured, judged.limit) == (Verdict.FAIL, "1 in 80 packages", "0")
    assert judged.details == ("CVE-2024-24762 HIGH python-multipart 0.0.6, fixed in 0.0.7",)


@pytest.mark.parametrize("severity", ["UNKNOWN", "LOW", "MEDIUM"])
def test_a_lesser_finding_does_not_reject_unless_the_policy_says_so(severity: str) -> None:
    facts = Facts(scan=examples.scan([examples.HIGH.model_copy(update={"severity": severity})]))
    assert row("HIGH or CRITICAL", facts).verdict is Verdict.PASS
    assert row("HIGH or CRITICAL", facts, examples.policy(scan={"severities": [severity]})).verdict is Verdict.FAIL


def test_a_row_says_so_where_the_policy_counts_other_severities_than_its_name_does() -> None:
    facts = Facts(scan=examples.scan([examples.HIGH]))
    judged = row("HIGH or CRITICAL", facts, examples.policy(scan={"severities": ["CRITICAL"]}))
    assert (judged.verdict, judged.measured) == (Verdict.PASS, "0 in 80 packages")
    assert judged.details == ("only CRITICAL counts, as scan.severities in the policy says",)
    same = examples.policy(scan={"severities": ["CRITICAL", "HIGH"]})
    assert len(row("HIGH or CRITICAL", facts, same).details) == 1


def test_the_policy_decides_about_a_finding_without_a_fix_and_it_is_named_either_way() -> None:
    facts = Facts(scan=examples.scan([examples.UNFIXED]))
    listed = row("HIGH or CRITICAL", facts)
    assert (listed.verdict, listed.details) == (
        Verdict.PASS,
        ("1 without a fix yet, listed below",),
    )
    counted = row("HIGH or CRITICAL", facts, examples.policy(scan={"unfixed": "reject"}))
    assert (counted.verdict, counted.details) == (Verdict.FAIL, ("CVE-2025-1 CRITICAL libc6 2.41, no fix yet",))


def test_a_finding_that_is_ignored_does_not_reject_and_is_counted() -> None:
    facts = Facts(scan=examples.scan([examples.HIGH]))
    judged = row("HIGH or CRITICAL", facts, examples.ignoring(examples.HIGH))
    assert (judged.verdict, judged.measured) == (Verdict.PASS, "0 in 80 packages")
    assert judged.details == ("1 ignored, listed below",)


def test_an_ignore_that_expired_hides_nothing() -> None:
    facts = Facts(scan=examples.scan([examples.HIGH]))
    judged = row("HIGH or CRITICAL", facts, examples.ignoring(examples.HIGH, examples.YESTERDAY))
    assert (judged.verdict, judged.measured) == (Verdict.FAIL, "1 in 80 packages")
    assert judged.details == (
        "CVE-2024-24762 HIGH python-multipart 0.0.6, fixed in 0.0.7; its ignore expired on 2026-11-21 (ana)",
    )


@pytest.mark.parametrize(
    ("found", "expires", "state", "measured", "details"),
    [
        (examples.HIGH, examples.TODAY, IgnoreState.ACTIVE, "1 of 1 in use", ()),
        (
            examples.HIGH,
            examples.YESTERDAY,
            IgnoreState.EXPIRED,
            "0 of 1 in use",
            ("CVE-2024-24762 expired on 2026-11-21: ana must fix it, or renew the ignore with a reason",),
        ),
        (
            examples.UNFIXED,
            examples.TODAY,
            IgnoreState.UNUSED,
            "0 of 1 in use",
            ("CVE-2025-1 matches nothing: remove it, ana",),
        ),
        # What was found no more needs no ignore, whatever its day.
        (
            examples.UNFIXED,
            examples.YESTERDAY,
            IgnoreState.UNUSED,
            "0 of 1 in use",
            ("CVE-2025-1 matches nothing: remove it, ana",),
        ),
    ],
)
def test_an_ignore_holds_to_the_end_of_its_day_and_only_for_what_is_found(
    found: Finding, expires: date, state: IgnoreState, measured: str, details: tuple[str, ...]
) -> None:
    scan = examples.scan([examples.HIGH])
    warns, rejects = examples.ignoring(found, expires), examples.ignoring(found, expires, unused_ignores="reject")
    assert findings.judge_ignores(scan, warns) == (
        Ignore(id=found.id, reason="never reached", owner="ana", expires=expires.isoformat(), state=state),
    )
    warned, rejected = (row("no expired or unused ignores", Facts(scan=scan), policy) for policy in (warns, rejects))
    assert (warned.measured, warned.limit, warned.details) == (measured, "1", details)
    active = state is IgnoreState.ACTIVE
    assert warned.verdict is (Verdict.PASS if active else Verdict.WARN)
    assert rejected == warned.model_copy(update={"verdict": Verdict.PASS if active else Verdict.FAIL})


def test_of_two_ignores_of_one_finding_the_one_that_still_holds_counts() -> None:
    policy = Policy(
        ignore=[
            *examples.ignoring(examples.HIGH, examples.YESTERDAY, "bo").ignore,
            *examples.ignoring(examples.HIGH, examples.TODAY, "ana").ignore,
        ]
    )
    scan = examples.scan([examples.HIGH])
    assert findings.judge(scan, policy)[0].note == "never reached (ana, until 2026-11-22)"
    judged = row("no expired or unused ignores", Facts(scan=scan), policy)
    assert (judged.verdict, judged.measured, judged.limit) == (Verdict.WARN, "1 of 2 in use", "2")


def test_a_security_update_that_is_pending_is_named_and_rejects_only_where_the_policy_says_so() -> None:
    harmless = examples.LIBC.model_copy(update={"package": "bash", "security": False})
    facts = Facts(updates=Updates(pending=(examples.LIBC, harmless)))
    warned = row("no security update pending", facts)
    assert (warned.verdict, warned.measured, warned.limit) == (Verdict.WARN, "1 pending", "0")
    assert warned.details == ("libc6 2.41-12 → 2.41-13", "take a newer base image, or upgrade in the Dockerfile")
    rejected = row("no security update pending", facts, examples.policy(scan={"pending_updates": "reject"}))
    assert rejected == warned.model_copy(update={"verdict": Verdict.FAIL})
    none = row("no security update pending", Facts(updates=Updates(pending=(harmless,))))
    assert (none.verdict, none.measured, none.details) == (Verdict.PASS, "0 pending", ())


def test_updates_that_could_not_be_asked_for_are_no_pass() -> None:
    facts = Facts(updates=Updates(reason="apt-get could not say: E: no network"))
    why = ("apt-get could not say: E: no network",)
    warned = row("no security update pending", facts)
    assert (warned.verdict, warned.measured, warned.limit, warned.details) == (Verdict.WARN, "unknown", "0", why)
    demanded = row("no security update pending", facts, examples.policy(scan={"pending_updates": "reject"}))
    assert (demanded.verdict, demanded.measured, demanded.details) == (Verdict.NOT_RUN, "", why)


def test_a_secret_is_named_by_its_rule_and_place() -> None:
    found = Secret(rule="aws-access-key-id", target="/app/config.env", severity="CRITICAL")
    judged = row("secrets in the image", Facts(scan=examples.scan(secrets=[found])))
    assert (judged.verdict, judged.measured, judged.details) == (
        Verdict.FAIL,
        "1 found",
        ("aws-access-key-id in /app/config.env",),
    )


def test_a_secret_that_somebody_answers_for_does_not_reject_and_stays_in_sight() -> None:
    key = Secret(rule="private-key", target="/app/tests/example.key", severity="HIGH")
    other = Secret(rule="github-pat", target="/app/config.env", severity="CRITICAL")
    facts, policy = Facts(scan=examples.scan(secrets=[key])), examples.ignoring(key)
    judged = row("secrets in the image", facts, policy)
    ignored = "private-key in /app/tests/example.key, ignored: never reached (ana, until 2026-11-22)"
    assert (judged.verdict, judged.measured, judged.details) == (Verdict.PASS, "0 found", (ignored,))
    assert row("no expired or unused ignores", facts, policy).measured == "1 of 1 in use"
    both = row("secrets in the image", Facts(scan=examples.scan(secrets=[key, other])), policy)
    assert (both.verdict, both.measured) == (Verdict.FAIL, "1 found")
    assert both.details == ("github-pat in /app/config.env", ignored)
    expired = row("secrets in the image", facts, examples.ignoring(key, examples.YESTERDAY))
    assert (expired.verdict, expired.details) == (
        Verdict.FAIL,
        ("private-key in /app/tests/example.key; its ignore expired on 2026-11-21 (ana)",),
    )


@pytest.mark.parametrize(
    ("wasted_bytes", "verdict", "measured"),
    [
        (0, Verdict.PASS, "0 MB"),
        (20 * MB, Verdict.PASS, "20 MB"),
        (20 * MB + 1, Verdict.FAIL, "20,000,001 bytes"),
        (135 * MB, Verdict.FAIL, "135 MB"),
    ],
)
def test_what_is_stored_for_nothing_has_a_limit(wasted_bytes: int, verdict: Verdict, measured: str) -> None:
    waste = (Waste(path="srv/train.csv", size_bytes=wasted_bytes, layer=2, why="removed"),)
    image = examples.image().model_copy(update={"waste": waste, "wasted_bytes": wasted_bytes})
    judged = row("wasted space", Facts(image=image))
    assert (judged.verdict, judged.measured, judged.limit) == (verdict, measured, "20 MB")
    mb = round(wasted_bytes / MB)
    cure = "Remove a file in the instruction that writes it, and copy it once."
    assert judged.details == ((f"/srv/train.csv removed {mb} MB. {cure}",) if verdict is Verdict.FAIL else ())
    assert row("wasted space", Facts(image=image), examples.policy(limits={"waste_mb": 135})).verdict is Verdict.PASS


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
