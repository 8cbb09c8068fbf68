from __future__ import annotations

import pytest

from drydock.errors import ScanError
from drydock.render import html, markdown, text
from drydock.report import Assessment, CheckResult, Disposition, Drift, Failure, JudgedFinding, Verdict
from tests.support import examples

REJECTING = JudgedFinding(finding=examples.HIGH, disposition=Disposition.REJECTS, age_days=1014)
LISTED = JudgedFinding(finding=examples.HIGH, disposition=Disposition.LISTED, age_days=1014)


def row(name: str, verdict: Verdict, measured: str, limit: str, *details: str) -> CheckResult:
    return CheckResult(name=name, verdict=verdict, measured=measured, limit=limit, details=details)


def test_a_published_image() -> None:
    assert (
        text.render(examples.report())
        == f"""\
image      iris-classifier 1f3c9e2ab0d1   270 MB   train 3 s, build 41 s

 PASS    runs as non-root             USER 10001:10001, uid 10001  limit not 0
 PASS    image size                   270 MB                       limit 500 MB

size       270 MB
compressed 90 MB
efficiency 100.0 %

 layer      size  compressed   files                  instruction
     1    120 MB       40 MB   +0 ~0 -0
     2    150 MB       50 MB   +0 ~0 -0               COPY /layers/rest/ /

tags       1.2.3, sha-1f3c9e2ab0d14c6f8e7a5b3c2d1e0f9a8b7c6d5e, 1.2, 1
published  127.0.0.1:5000/iris-classifier:1.2.3@{examples.MANIFEST_DIGEST}
"""
    )


def test_the_image_before_has_two_lines() -> None:
    lines = text.render(examples.report(drift=examples.drift())).splitlines()
    assert lines[4:8] == [
        "",
        f"before     127.0.0.1:5000/iris-classifier:1.2.2@sha256:{'b2' * 32}",
        "           81 rows asked; median answer 2.1 → 2.4 ms (1.14 times); to pull 84 MB → 90 MB (1.07 times); "
        "findings: 0 new, 1 gone",
        "",
    ]


def test_a_comparison_that_says_nothing_has_no_line() -> None:
    for drift in (None, Drift(reason="it is the first one")):
        assert "before  " not in text.render(examples.report(drift=drift))


def test_a_lean_model_is_said_to_be_equal_in_one_line() -> None:
    lines = text.render(examples.report(contract=examples.LEAN)).splitlines()
    assert lines[:3] == [
        "image      iris-classifier 1f3c9e2ab0d1   270 MB   train 3 s, build 41 s",
        "model      compiled, equivalent to the trained one on 11,083 rows: largest difference 3e-07, limit 1e-06",
        "",
    ]


def test_what_stood_under_its_tag_before_is_told() -> None:
    previous = {"sha-a": "sha256:0", "1.2": "sha256:1"}
    published = examples.publication("1.2.3").model_copy(
        update={"tags": ("1.2.3", "sha-a", "1.2"), "previous_digests": previous}
    )
    assert text.render(examples.report(publication=published)).splitlines()[-4:] == [
        "replaced   sha-a was sha256:0 before",
        "replaced   1.2 was sha256:1 before",
        "tags       1.2.3, sha-a, 1.2",
        f"published  127.0.0.1:5000/iris-classifier:1.2.3@{examples.MANIFEST_DIGEST}",
    ]


def test_a_rejected_image_on_local_bases_from_a_dirty_tree() -> None:
    rows = (
        row("image size", Verdict.PASS, "270 MB", "500 MB"),
        row("largest layer", Verdict.FAIL, "231 MB", "200 MB", "RUN make data: /data 231 MB.", "Split it."),
        row("HIGH or CRITICAL", Verdict.NOT_RUN, "", "", "no database", "more of it"),
        row("secrets in the image", Verdict.SKIP, "", "", "none could be there"),
    )
    report = examples.report(
        checks=rows,
        publication=None,
        images=examples.LOCAL,
        revision=examples.REVISION.model_copy(update={"dirty": True}),
    )
    assert (
        text.render(report)
        == """\
image      iris-classifier 1f3c9e2ab0d1-dirty   270 MB   train 3 s, build 41 s

 PASS    image size                   270 MB                       limit 500 MB
 FAIL    largest layer                231 MB                       limit 200 MB
         → RUN make data: /data 231 MB.
           Split it.
 NOT RUN HIGH or CRITICAL             no database
         → more of it
 SKIP    secrets in the image         none could be there

size       270 MB
compressed 90 MB
efficiency 100.0 %

 layer      size  compressed   files                  instruction
     1    120 MB       40 MB   +0 ~0 -0
     2    150 MB       50 MB   +0 ~0 -0               COPY /layers/rest/ /

local      base images and advisories were made on this machine; the result cannot be released

rejected   1 of 4 checks failed; nothing was pushed
"""
    )


def test_a_version_on_local_bases_is_published_for_trying_out() -> None:
    """Such a version is in a registry on this machine only."""
    said = "base images and advisories were made on this machine; published for trying out, and verify warns of it"
    report = examples.report(images=examples.LOCAL)
    assert f"local      {said}" in text.render(report).splitlines()
    assert f"Local. {said.capitalize()}." in html.render(report).replace("<strong>", "").replace("</strong>", "")
    assert markdown.render(report).endswith(
        "Built on base images made on this machine; published for trying out, and verify warns of it.\n"
    )
    unpublished = examples.report(images=examples.LOCAL, publication=examples.publication("mine"))
    assert "this machine; the result cannot be released\n" in text.render(unpublished)


def test_a_run_without_a_verdict() -> None:
    failure = Failure(
        stage="scan",
        exit_code=ScanError.exit_code,
        message="Trivy stopped without a report",
        likely_cause="its database is damaged",
        next_step="fetch it anew",
        log="FATAL one\nFATAL two",
    )
    rows = (row("HIGH or CRITICAL", Verdict.NOT_RUN, "", "", "Trivy stopped without a report"),)
    report = examples.report(checks=rows, publication=None, failures=(failure,), image=None, stages=())
    assert (
        text.render(report)
        == """\
image      iris-classifier 1f3c9e2ab0d1   not built

 NOT RUN HIGH or CRITICAL             Trivy stopped without a report

scan broke: Trivy stopped without a report
  FATAL one
  FATAL two
  usually   its database is damaged
  next      fetch it anew

no verdict scan broke (exit code 5); nothing was pushed
"""
    )


def test_what_was_let_through_stays_visible() -> None:
    rows = (
        row("image size", Verdict.PASS, "270 MB", "500 MB"),
        row("answers in time", Verdict.WARN, "median 4 ms, slowest 140 ms", "100 ms", "measure again"),
    )
    new = examples.NO_FIX.model_copy(update={"age_days": 1})
    report = examples.report(checks=rows, findings=(REJECTING, examples.IGNORED, new, examples.NO_FIX, LISTED))
    assert (
        text.render(report)
        == f"""\
image      iris-classifier 1f3c9e2ab0d1   270 MB   train 3 s, build 41 s

 PASS    image size                   270 MB                       limit 500 MB
 WARN    answers in time              median 4 ms, slowest 140 ms  limit 100 ms
         → measure again

ignored    HIGH     CVE-2024-24762   python-multipart 0.0.6, 1014 days old
           → no form is parsed (ana@example.com, until 2026-12-31)
no fix yet CRITICAL CVE-2025-1       libc6 2.41, 1 day old
no fix yet CRITICAL CVE-2025-1       libc6 2.41

size       270 MB
compressed 90 MB
efficiency 100.0 %

 layer      size  compressed   files                  instruction
     1    120 MB       40 MB   +0 ~0 -0
     2    150 MB       50 MB   +0 ~0 -0               COPY /layers/rest/ /

tags       1.2.3, sha-1f3c9e2ab0d14c6f8e7a5b3c2d1e0f9a8b7c6d5e, 1.2, 1
warned     1 of 2 checks; read them above
published  127.0.0.1:5000/iris-classifier:1.2.3@{examples.MANIFEST_DIGEST}
"""
    )


def test_a_long_list_without_fixes_is_cut_and_what_is_ignored_never_is() -> None:
    report = examples.report(findings=(*[examples.IGNORED] * 30, *[examples.NO_FIX] * 12))
    lines = text.render(report).splitlines()
    assert sum(line.startswith("ignored ") for line in lines) == 30
    assert [line for line in lines if line.startswith("no fix yet ")] == [
        *["no fix yet CRITICAL CVE-2025-1       libc6 2.41"] * 10,
        "no fix yet 2 more, in report.json",
    ]


def test_what_an_image_says_begins_no_line_and_steers_no_terminal() -> None:
    said = "\x1b[2J\rtwo\tcells\npublished  evil@sha256:00\u202e"
    failure = Failure(
        stage="scan", exit_code=5, message=said, likely_cause="", next_step="read", log="\x1b]0;title\x07\nlog"
    )
    report = examples.report(
        checks=(row("image size", Verdict.FAIL, said, "1 MB"),), publication=None, failures=(failure,), findings=()
    )
    assert (
        text.render(report)
        == """\
image      iris-classifier 1f3c9e2ab0d1   270 MB   train 3 s, build 41 s

 FAIL    image size                   �[2J two cells published  evil@sha256:00� limit 1 MB

size       270 MB
compressed 90 MB
efficiency 100.0 %

 layer      size  compressed   files                  instruction
     1    120 MB       40 MB   +0 ~0 -0
     2    150 MB       50 MB   +0 ~0 -0               COPY /layers/rest/ /

scan broke: �[2J two cells published  evil@sha256:00�
  �]0;title�
  log
  next      read

rejected   1 of 1 checks failed; nothing was pushed
"""
    )


def broken(stage: str, exit_code: int) -> Failure:
    return Failure(stage=stage, exit_code=exit_code, message="", likely_cause="", next_step="", log="")


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({"push": False}, f"approved   iris-classifier@{examples.MANIFEST_DIGEST}; not pushed, as asked"),
        ({"checks": ()}, "rejected   no check passed; nothing was pushed"),
        (
            {
                "checks": (
                    row("image size", Verdict.PASS, "1 MB", "2 MB"),
                    row("updates", Verdict.NOT_RUN, "", "", "asked"),
                )
            },
            "rejected   1 of 2 checks could not be made; nothing was pushed",
        ),
        (
            {"failures": (broken("tag", 6),)},
            "no verdict tag broke (exit code 6); the registry may serve what nobody confirmed",
        ),
        (
            {"failures": (broken("tag", 130),)},
            "no verdict tag broke (exit code 130); the registry may serve what nobody confirmed",
        ),
        ({"failures": (broken("tag", 7),)}, "no verdict tag broke (exit code 7); nothing was pushed"),
        (
            {"failures": (broken("check-registry", 6),)},
            "no verdict check-registry broke (exit code 6); nothing was pushed",
        ),
    ],
)
def test_the_line_to_quote(changed: dict[str, object], verdict: str) -> None:
    assert text.verdict(examples.report(publication=None, **changed)) == verdict


def test_a_long_reason_is_cut() -> None:
    details = tuple(f"CVE-{number}" for number in range(22))
    report = examples.report(checks=(row("HIGH or CRITICAL", Verdict.FAIL, "22", "0", *details),), publication=None)
    expected = ["         → CVE-0", "           CVE-19", "           2 more, in report.json"]
    lines = text.render(report).splitlines()
    assert [lines[3], *lines[22:24]] == expected


def test_what_has_no_report_is_told_in_full() -> None:
    details = tuple(f"CVE-{number}" for number in range(22))
    told = Assessment(checks=(row("new", Verdict.FAIL, "22", "0", *details),), conclusion="rescanned  1 image")
    lines = text.assessment(told).splitlines()
    assert [lines[1], *lines[21:]] == [
        "         → CVE-0",
        "           CVE-20",
        "           CVE-21",
        "",
        "rescanned  1 image",
    ]
