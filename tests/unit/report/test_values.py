from __future__ import annotations

import pytest

from drydock.report import Canary, CheckResult, Comparison, Failure, Image, Smoke, Updates, Verdict
from tests.support import examples


def row(verdict: Verdict) -> CheckResult:
    return CheckResult(name="a check", measured="1", limit="2", verdict=verdict, details=("because",))


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
    assert examples.report(checks=rows, publication=None, push=False).exit_code == exit_code


def test_what_was_seen_to_fail_stays_failed_where_a_tool_broke_as_well() -> None:
    failure = Failure(stage="scan", exit_code=5, message="no database", likely_cause="", next_step="fetch it", log="")
    broken = {"failures": (failure,), "publication": None}
    assert examples.report(checks=(row(Verdict.FAIL),), **broken).exit_code == 1
    assert examples.report(checks=(row(Verdict.NOT_RUN),), **broken).exit_code == 5


def test_an_approved_image_that_was_not_pushed_as_asked_is_not_exit_code_0() -> None:
    assert examples.report(publication=None).exit_code == 1


def test_how_long_answers_took_is_0_where_none_was_asked() -> None:
    nothing = Smoke(uid=None, ready_seconds=None)
    assert (nothing.median_seconds, nothing.slowest_seconds) == (0.0, 0.0)
    asked = [
        examples.answer(examples.SMALL).model_copy(update={"duration_seconds": seconds}) for seconds in (0.5, 0.1, 0.2)
    ]
    assert (examples.smoke(*asked).median_seconds, examples.smoke(*asked).slowest_seconds) == (0.2, 0.5)


def test_what_is_counted_from_other_values() -> None:
    image = examples.image().model_copy(update={"wasted_bytes": 27_000_000})
    assert (image.size_bytes, image.compressed_bytes, image.efficiency) == (270_000_000, 90_000_000, 0.9)
    empty = Image(manifest_digest="", config_digest="", user="", labels={}, layers=())
    assert empty.efficiency == 1.0
    assert Comparison(image="a", size_before_bytes=5, size_after_bytes=3).difference_bytes == -2
    harmless = examples.LIBC.model_copy(update={"security": False})
    assert Updates(pending=(harmless, examples.LIBC)).security == (examples.LIBC,)
    assert Canary(expected=("a", "b", "c"), found=("b",)).missed == ("a", "c")


def test_the_age_of_the_advisories_is_that_of_the_scans_own_time() -> None:
    assert examples.scan(scanned_at="2026-11-22T13:30:00+01:00").database_age_hours == 12.5
