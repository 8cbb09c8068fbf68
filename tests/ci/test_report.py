from __future__ import annotations

import pytest

from errors import ScanError
from report import Canary, Comparison, Failure, Image, Row, Smoke, Updates, Verdict
from tests.ci import examples

BROKEN = Failure(stage="scan", exit_code=ScanError.exit_code, what="a", usually="", next_step="b", log="")


@pytest.mark.parametrize(
    ("verdicts", "failures", "published", "push", "exit_code"),
    [
        (["PASS"], (), True, True, 0),
        (["PASS", "WARN", "SKIP"], (), True, True, 0),
        (["PASS"], (), False, False, 0),
        # Asked for and not published, and nothing says why: no success.
        (["PASS"], (), False, True, 1),
        (["PASS", "FAIL"], (), False, False, 1),
        (["PASS", "FAIL"], (BROKEN,), False, True, 1),
        (["PASS", "NOT RUN"], (BROKEN,), False, True, 5),
        (["PASS", "NOT RUN"], (), False, False, 1),
        (["WARN", "SKIP"], (), False, False, 1),
        ([], (), False, False, 1),
    ],
)
def test_the_exit_code_is_0_only_where_something_passed_and_nothing_is_open(
    verdicts: list[str], failures: tuple[Failure, ...], published: bool, push: bool, exit_code: int
) -> None:
    rows = tuple(Row(name="a", measured="", limit="", verdict=Verdict(verdict)) for verdict in verdicts)
    publication = examples.publication() if published else None
    report = examples.report(rows=rows, failures=failures, publication=publication, push=push)
    assert report.exit_code == exit_code


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
