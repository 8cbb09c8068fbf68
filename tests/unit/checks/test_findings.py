from __future__ import annotations

import pytest

from drydock.checks import findings
from drydock.policy import Policy
from drydock.report import Disposition, Finding, IgnoreState, Secret
from tests.support import examples


def test_the_last_second_of_an_ignores_day_is_in_utc() -> None:
    for scanned_at, state in (
        ("2026-11-22T23:59:59+00:00", IgnoreState.ACTIVE),
        ("2026-11-23T00:00:00+00:00", IgnoreState.EXPIRED),
    ):
        scan = examples.scan([examples.HIGH], scanned_at=scanned_at)
        assert [each.state for each in findings.judge_ignores(scan, examples.ignoring(examples.HIGH))] == [state]


def test_every_finding_is_judged_what_rejects_first_and_then_by_severity_and_name() -> None:
    def found(name: str, severity: str, fixed_version: str = "2", package: str = "a") -> Finding:
        return Finding(id=name, package=package, installed_version="1", fixed_version=fixed_version, severity=severity)

    ignored, expired = found("CVE-5", "CRITICAL"), found("CVE-2", "HIGH", package="b")
    found_all = [
        found("CVE-9", "STRANGE"),
        found("CVE-8", "UNKNOWN"),
        found("CVE-7", "LOW"),
        found("CVE-6", "CRITICAL", fixed_version=""),
        ignored,
        expired,
        found("CVE-4", "HIGH"),
        found("CVE-3", "HIGH"),
        found("CVE-1", "CRITICAL", package="z"),
    ]
    ignores = [*examples.ignoring(ignored).ignore, *examples.ignoring(expired, examples.YESTERDAY, "bo").ignore]
    policy = Policy(ignore=ignores)
    judged = findings.judge(examples.scan(found_all), policy)
    assert [(each.finding.id, each.disposition, each.note) for each in judged] == [
        ("CVE-1", Disposition.REJECTS, ""),
        ("CVE-3", Disposition.REJECTS, ""),
        ("CVE-4", Disposition.REJECTS, ""),
        ("CVE-2", Disposition.REJECTS, "its ignore expired on 2026-11-21 (bo)"),
        ("CVE-5", Disposition.IGNORED, "never reached (ana, until 2026-11-22)"),
        ("CVE-6", Disposition.UNFIXED, ""),
        ("CVE-7", Disposition.LISTED, ""),
        ("CVE-8", Disposition.LISTED, ""),
        ("CVE-9", Disposition.LISTED, ""),
    ]
    unfixed = findings.judge(examples.scan(found_all), examples.policy(scan={"unfixed": "reject"}))
    assert {each.finding.id for each in unfixed if each.disposition is Disposition.REJECTS} >= {"CVE-5", "CVE-6"}
    assert all(each.disposition is not Disposition.UNFIXED for each in unfixed)


@pytest.mark.parametrize("severity", ["LOW", "HIGH"])
def test_an_ignore_of_what_would_not_reject_is_in_use_all_the_same(severity: str) -> None:
    found = examples.UNFIXED.model_copy(update={"severity": severity})
    judged = findings.judge(examples.scan([found]), examples.ignoring(found))
    assert [each.disposition for each in judged] == [Disposition.IGNORED]


@pytest.mark.parametrize(
    ("published_at", "age_days"),
    [
        ("2026-11-22T11:59:59Z", 0),
        ("2026-11-21T12:00:00Z", 1),
        ("2026-11-21T12:00:01+00:00", 0),
        ("2024-02-12T00:00:00Z", 1014),
        ("", None),
    ],
)
def test_a_findings_age_is_counted_in_whole_days_to_the_scan(published_at: str, age_days: int | None) -> None:
    found = examples.HIGH.model_copy(update={"published_at": published_at})
    assert [each.age_days for each in findings.judge(examples.scan([found]), Policy())] == [age_days]


OTHER = examples.HIGH.model_copy(update={"package": "starlette"})


@pytest.mark.parametrize("package", ["python-multipart", "Python_Multipart"])
def test_an_ignore_that_names_a_package_hides_its_finding_in_no_other(package: str) -> None:
    scan = examples.scan([examples.HIGH, OTHER])
    judged = findings.judge(scan, examples.ignoring(examples.HIGH, package=package))
    assert [(each.finding.package, each.disposition) for each in judged] == [
        ("starlette", Disposition.REJECTS),
        ("python-multipart", Disposition.IGNORED),
    ]
    everywhere = findings.judge(scan, examples.ignoring(examples.HIGH))
    assert {each.disposition for each in everywhere} == {Disposition.IGNORED}


def test_an_ignore_of_a_package_without_the_finding_is_dead() -> None:
    policy = examples.ignoring(examples.HIGH, package="starlette")
    (ignore,) = findings.judge_ignores(examples.scan([examples.HIGH]), policy)
    assert (ignore.state, ignore.subject) == (IgnoreState.UNUSED, "CVE-2024-24762 in starlette")


KEY = Secret(rule="private-key", target="/app/tests/example.key", severity="HIGH")


@pytest.mark.parametrize(
    ("found", "disposition"),
    [
        (KEY, Disposition.IGNORED),
        (KEY.model_copy(update={"target": "/app/example.key"}), Disposition.REJECTS),
        (KEY.model_copy(update={"rule": "github-pat"}), Disposition.REJECTS),
    ],
)
def test_an_ignore_of_a_secret_names_its_rule_and_its_place(found: Secret, disposition: Disposition) -> None:
    scan = examples.scan(secrets=[found])
    assert [each.disposition for each in findings.judge_secrets(scan, examples.ignoring(KEY))] == [disposition]


def test_an_ignore_without_a_path_hides_no_secret_and_one_with_a_path_no_vulnerability() -> None:
    by_rule_alone = examples.ignoring(KEY).ignore[0].model_copy(update={"path": ""})
    scan = examples.scan([examples.HIGH.model_copy(update={"id": KEY.rule})], [KEY])
    policy = Policy(ignore=[by_rule_alone])
    assert [each.disposition for each in findings.judge_secrets(scan, policy)] == [Disposition.REJECTS]
    assert [each.disposition for each in findings.judge(scan, examples.ignoring(KEY))] == [Disposition.REJECTS]
