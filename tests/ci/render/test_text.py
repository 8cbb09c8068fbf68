from __future__ import annotations

import pytest

from errors import ScanError
from render import text
from report import Failure, Row, Verdict
from tests.ci import examples


def row(name: str, verdict: Verdict, measured: str, limit: str, *details: str) -> Row:
    return Row(name=name, verdict=verdict, measured=measured, limit=limit, details=details)


def test_a_published_image() -> None:
    assert (
        text.render(examples.report())
        == f"""\
image      iris-classifier 1f3c9e2ab0d1   270 MB   train 3 s, build 41 s

 PASS    runs as non-root             USER 10001:10001, uid 10001  limit not 0
 PASS    image size                   270 MB                       limit 500 MB

published  127.0.0.1:5000/iris-classifier:1.2.3@{examples.MANIFEST_DIGEST}
"""
    )


def test_a_rejected_image_on_stand_in_bases_from_a_dirty_tree() -> None:
    rows = (
        row("image size", Verdict.PASS, "270 MB", "500 MB"),
        row("largest layer", Verdict.FAIL, "231 MB", "200 MB", "RUN make data: /data 231 MB.", "Split it."),
        row("HIGH or CRITICAL", Verdict.NOT_RUN, "", "", "no database", "more of it"),
        row("secrets in the image", Verdict.SKIP, "", "", "none could be there"),
    )
    report = examples.report(
        rows=rows,
        publication=None,
        images=examples.STAND_IN,
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

stand-in   base images and advisories are this machine's own; the result is no release

rejected   1 of 4 checks failed; nothing was pushed
"""
    )


def test_a_run_without_a_verdict() -> None:
    failure = Failure(
        stage="scan",
        exit_code=ScanError.exit_code,
        what="Trivy stopped without a report",
        usually="its database is damaged",
        next_step="fetch it anew",
        log="FATAL one\nFATAL two",
    )
    rows = (row("HIGH or CRITICAL", Verdict.NOT_RUN, "", "", "Trivy stopped without a report"),)
    report = examples.report(rows=rows, publication=None, failures=(failure,), image=None, stages=())
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


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({"push": False}, f"approved   iris-classifier@{examples.MANIFEST_DIGEST}; not pushed, as asked"),
        ({"rows": ()}, "rejected   no check passed; nothing was pushed"),
    ],
)
def test_the_line_to_quote(changed: dict[str, object], verdict: str) -> None:
    assert text.verdict(examples.report(publication=None, **changed)) == verdict
