from __future__ import annotations

from datetime import date

import pytest

from drydock.checks import Facts, findings
from drydock.policy import Policy
from drydock.report import Canary, Finding, Ignore, IgnoreState, Scan, Secret, Updates, Verdict
from tests.support import examples


@pytest.mark.parametrize(
    ("scan", "measured"),
    [
        (examples.scan(python_packages={"fastapi": "0.115.0"}), "1 locked, 78 of debian 13.1"),
        (examples.scan(python_packages={**examples.LOCKED, "numpy": "2.1.1"}), "1 locked, 78 of debian 13.1"),
        (examples.scan(os_family="", os_packages=0), "2 locked, 0 of no system"),
    ],
)
def test_a_scan_that_saw_less_never_passes(scan: Scan, measured: str) -> None:
    judged = examples.judge("scanner covers every package", Facts(scan=scan))
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
    judged = examples.judge("scanner passes its self-test", Facts(scan=examples.scan(canary=canary)))
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
    judged = examples.judge("advisories are recent", Facts(scan=examples.scan(scanned_at=scanned_at)))
    assert (judged.verdict, judged.measured, judged.limit) == (verdict, measured, "48 h")
    words = "older than 24 h: mirror.gcr.io/aquasec/trivy-db:2 was not renewed"
    assert judged.details == ((words,) if verdict is Verdict.WARN else ())


@pytest.mark.parametrize(
    ("scanned_at", "measured"),
    [("2026-11-22T12:00:00+00:00", "12 h old"), ("2027-11-22T12:00:00+00:00", "366 days old")],
)
def test_a_sample_is_never_recent_however_new_it_is(scanned_at: str, measured: str) -> None:
    judged = examples.judge(
        "advisories are recent", Facts(scan=examples.scan(database_is_sample=True, scanned_at=scanned_at))
    )
    assert (judged.verdict, judged.measured, judged.limit) == (Verdict.WARN, measured, "none")
    assert judged.details == (
        "a small sample database: it says little about the image, and the result cannot be a release",
    )


def test_a_finding_names_its_package_and_its_cure() -> None:
    judged = examples.judge("HIGH or CRITICAL", Facts(scan=examples.scan([examples.HIGH])))
    assert (judged.verdict, judged.measured, judged.limit) == (Verdict.FAIL, "1 in 80 packages", "0")
    assert judged.details == ("CVE-2024-24762 HIGH python-multipart 0.0.6, fixed in 0.0.7",)


@pytest.mark.parametrize("severity", ["UNKNOWN", "LOW", "MEDIUM"])
def test_a_lesser_finding_does_not_reject_unless_the_policy_says_so(severity: str) -> None:
    facts = Facts(scan=examples.scan([examples.HIGH.model_copy(update={"severity": severity})]))
    assert examples.judge("HIGH or CRITICAL", facts).verdict is Verdict.PASS
    assert (
        examples.judge("HIGH or CRITICAL", facts, examples.policy(scan={"severities": [severity]})).verdict
        is Verdict.FAIL
    )


def test_a_row_says_so_where_the_policy_counts_other_severities_than_its_name_does() -> None:
    facts = Facts(scan=examples.scan([examples.HIGH]))
    judged = examples.judge("HIGH or CRITICAL", facts, examples.policy(scan={"severities": ["CRITICAL"]}))
    assert (judged.verdict, judged.measured) == (Verdict.PASS, "0 in 80 packages")
    assert judged.details == ("only CRITICAL counts, as scan.severities in the policy says",)
    same = examples.policy(scan={"severities": ["CRITICAL", "HIGH"]})
    assert len(examples.judge("HIGH or CRITICAL", facts, same).details) == 1


def test_the_policy_decides_about_a_finding_without_a_fix_and_it_is_named_either_way() -> None:
    facts = Facts(scan=examples.scan([examples.UNFIXED]))
    listed = examples.judge("HIGH or CRITICAL", facts)
    assert (listed.verdict, listed.details) == (
        Verdict.PASS,
        ("1 without a fix yet, listed below",),
    )
    counted = examples.judge("HIGH or CRITICAL", facts, examples.policy(scan={"unfixed": "reject"}))
    assert (counted.verdict, counted.details) == (Verdict.FAIL, ("CVE-2025-1 CRITICAL libc6 2.41, no fix yet",))


def test_a_finding_that_is_ignored_does_not_reject_and_is_counted() -> None:
    facts = Facts(scan=examples.scan([examples.HIGH]))
    judged = examples.judge("HIGH or CRITICAL", facts, examples.ignoring(examples.HIGH))
    assert (judged.verdict, judged.measured) == (Verdict.PASS, "0 in 80 packages")
    assert judged.details == ("1 ignored, listed below",)


def test_an_ignore_that_expired_hides_nothing() -> None:
    facts = Facts(scan=examples.scan([examples.HIGH]))
    judged = examples.judge("HIGH or CRITICAL", facts, examples.ignoring(examples.HIGH, examples.YESTERDAY))
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
    warned, rejected = (
        examples.judge("no expired or unused ignores", Facts(scan=scan), policy) for policy in (warns, rejects)
    )
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
    judged = examples.judge("no expired or unused ignores", Facts(scan=scan), policy)
    assert (judged.verdict, judged.measured, judged.limit) == (Verdict.WARN, "1 of 2 in use", "2")


def test_a_security_update_that_is_pending_is_named_and_rejects_only_where_the_policy_says_so() -> None:
    harmless = examples.LIBC.model_copy(update={"package": "bash", "security": False})
    facts = Facts(updates=Updates(pending=(examples.LIBC, harmless)))
    warned = examples.judge("no security update pending", facts)
    assert (warned.verdict, warned.measured, warned.limit) == (Verdict.WARN, "1 pending", "0")
    assert warned.details == ("libc6 2.41-12 → 2.41-13", "take a newer base image, or upgrade in the Dockerfile")
    rejected = examples.judge("no security update pending", facts, examples.policy(scan={"pending_updates": "reject"}))
    assert rejected == warned.model_copy(update={"verdict": Verdict.FAIL})
    none = examples.judge("no security update pending", Facts(updates=Updates(pending=(harmless,))))
    assert (none.verdict, none.measured, none.details) == (Verdict.PASS, "0 pending", ())


def test_updates_that_could_not_be_asked_for_are_no_pass() -> None:
    facts = Facts(updates=Updates(reason="apt-get could not say: E: no network"))
    why = ("apt-get could not say: E: no network",)
    warned = examples.judge("no security update pending", facts)
    assert (warned.verdict, warned.measured, warned.limit, warned.details) == (Verdict.WARN, "unknown", "0", why)
    demanded = examples.judge("no security update pending", facts, examples.policy(scan={"pending_updates": "reject"}))
    assert (demanded.verdict, demanded.measured, demanded.details) == (Verdict.NOT_RUN, "", why)


def test_a_secret_is_named_by_its_rule_and_place() -> None:
    found = Secret(rule="aws-access-key-id", target="/app/config.env", severity="CRITICAL")
    judged = examples.judge("secrets in the image", Facts(scan=examples.scan(secrets=[found])))
    assert (judged.verdict, judged.measured, judged.details) == (
        Verdict.FAIL,
        "1 found",
        ("aws-access-key-id in /app/config.env",),
    )


def test_a_secret_that_somebody_answers_for_does_not_reject_and_stays_in_sight() -> None:
    key = Secret(rule="private-key", target="/app/tests/example.key", severity="HIGH")
    other = Secret(rule="github-pat", target="/app/config.env", severity="CRITICAL")
    facts, policy = Facts(scan=examples.scan(secrets=[key])), examples.ignoring(key)
    judged = examples.judge("secrets in the image", facts, policy)
    ignored = "private-key in /app/tests/example.key, ignored: never reached (ana, until 2026-11-22)"
    assert (judged.verdict, judged.measured, judged.details) == (Verdict.PASS, "0 found", (ignored,))
    assert examples.judge("no expired or unused ignores", facts, policy).measured == "1 of 1 in use"
    both = examples.judge("secrets in the image", Facts(scan=examples.scan(secrets=[key, other])), policy)
    assert (both.verdict, both.measured) == (Verdict.FAIL, "1 found")
    assert both.details == ("github-pat in /app/config.env", ignored)
    expired = examples.judge("secrets in the image", facts, examples.ignoring(key, examples.YESTERDAY))
    assert (expired.verdict, expired.details) == (
        Verdict.FAIL,
        ("private-key in /app/tests/example.key; its ignore expired on 2026-11-21 (ana)",),
    )
