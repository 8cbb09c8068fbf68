from __future__ import annotations

from drydock.render import github_annotations
from drydock.report import CheckResult, Failure, Verdict
from tests.support import examples


def row(name: str, verdict: Verdict, *details: str, measured: str = "2", limit: str = "1") -> CheckResult:
    return CheckResult(name=name, verdict=verdict, measured=measured, limit=limit, details=details)


def test_what_has_a_place_is_shown_there() -> None:
    row = CheckResult(
        name="largest layer", measured="231 MB", limit="200 MB", verdict=Verdict.FAIL, location="a,b/Dockerfile:14"
    )
    first = github_annotations.render(examples.report(checks=(row,), publication=None)).splitlines()[0]
    assert first == "::error file=a%2Cb/Dockerfile,line=14,title=largest layer::231 MB, limit 200 MB"


def test_a_published_image_is_a_notice_and_what_warned_is_a_warning() -> None:
    rows = (row("image size", Verdict.PASS), row("answers in time", Verdict.WARN, "measure again", "or raise it"))
    assert github_annotations.render(examples.report(checks=rows)) == (
        "::warning title=answers in time::2, limit 1%0Ameasure again%0Aor raise it\n"
        f"::notice title=published::127.0.0.1:5000/iris-classifier:1.2.3@{examples.MANIFEST_DIGEST}\n"
    )


def test_what_rejects_the_image_comes_before_what_broke_and_that_before_what_warned() -> None:
    rows = (
        row("answers in time", Verdict.WARN, limit=""),
        row("HIGH or CRITICAL", Verdict.NOT_RUN, "no database", measured="", limit=""),
        row("image size", Verdict.FAIL, "drop scipy"),
        row("secrets in the image", Verdict.SKIP, "none", measured="", limit=""),
    )
    failure = Failure(
        stage="scan", exit_code=5, message="no database", likely_cause="no net", next_step="fetch it", log="x"
    )
    report = examples.report(checks=rows, publication=None, failures=(failure,))
    assert github_annotations.render(report) == (
        "::error title=image size::2, limit 1%0Adrop scipy\n"
        "::error title=scan broke::no database%0Ano net%0Anext: fetch it\n"
        "::warning title=answers in time::2\n"
    )


def test_a_check_that_could_not_be_made_is_an_error_where_nothing_broke() -> None:
    rows = (row("no security update pending", Verdict.NOT_RUN, "no shell", measured="", limit=""),)
    assert github_annotations.render(examples.report(checks=rows, publication=None)) == (
        "::error title=no security update pending::could not be made%0Ano shell\n"
    )


def test_what_an_image_says_starts_no_command_of_its_own() -> None:
    said = "50%\r\n::set-output name=digest::evil\n  ::add-mask::x\x1b[2J"
    failure = Failure(
        stage="a:b,\n::set-env name=c::d", exit_code=5, message=said, likely_cause="", next_step=said, log=said
    )
    report = examples.report(checks=(row("size", Verdict.FAIL, said, measured=said),), failures=(failure,))
    lines = github_annotations.render(report).splitlines()
    escaped = "50%25%0D%0A::set-output name=digest::evil%0A  ::add-mask::x�[2J"
    assert lines[:2] == [
        f"::error title=size::{escaped}, limit 1%0A{escaped}",
        f"::error title=a%3Ab%2C%0A%3A%3Aset-env name=c%3A%3Ad broke::{escaped}%0Anext: {escaped}",
    ]
    assert len(lines) == 3


def test_a_long_reason_is_cut() -> None:
    details = tuple(f"CVE-{number}" for number in range(22))
    report = examples.report(checks=(row("HIGH", Verdict.FAIL, *details),), publication=None)
    expected = "%0ACVE-18%0ACVE-19%0A2 more, in report.json\n"
    assert github_annotations.render(report).splitlines(keepends=True)[0].endswith(expected)
