from __future__ import annotations

import pytest

from report import Failure, Row, Verdict
from tests.ci import examples


def row(verdict: Verdict) -> Row:
    return Row(name="a check", measured="1", limit="2", verdict=verdict, details=("because",))


@pytest.mark.parametrize(
    ("verdicts", "exit_code"),
    [
        ((Verdict.PASS,), 0),
        ((Verdict.PASS, Verdict.WARN), 0),
        ((Verdict.PASS, Verdict.SKIP), 0),
        ((Verdict.PASS, Verdict.FAIL), 1),
        ((Verdict.PASS, Verdict.NOT_RUN), 1),
        ((Verdict.WARN,), 1),
        ((Verdict.SKIP,), 1),
        ((), 1),
    ],
)
def test_only_an_image_that_would_be_approved_is_exit_code_0(verdicts: tuple[Verdict, ...], exit_code: int) -> None:
    rows = tuple(map(row, verdicts))
    assert examples.report(rows=rows, publication=None, push=False).exit_code == exit_code


def test_what_was_seen_to_fail_stays_failed_where_a_tool_broke_as_well() -> None:
    failure = Failure(stage="scan", exit_code=5, what="no database", usually="", next_step="fetch it", log="")
    broken = {"failures": (failure,), "publication": None}
    assert examples.report(rows=(row(Verdict.FAIL),), **broken).exit_code == 1
    assert examples.report(rows=(row(Verdict.NOT_RUN),), **broken).exit_code == 5


def test_an_approved_image_that_was_not_pushed_as_asked_is_not_exit_code_0() -> None:
    assert examples.report(publication=None).exit_code == 1
