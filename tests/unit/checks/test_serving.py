from __future__ import annotations

from pathlib import Path

import pytest

from drydock import checks
from drydock.checks import Facts
from drydock.policy import Policy
from drydock.report import Malformed, Verdict
from tests.support import examples

ANSWERS = "answers /predict as trained"
QUALITY = examples.policy(quality={"min": {"accuracy": 0.9}})


def test_a_container_that_never_got_ready_is_one_fault_and_one_red_row() -> None:
    facts = examples.facts()
    facts.smoke = examples.smoke(ready_seconds=None, not_ready="it ended with exit code 1")
    rows = {row.name: (row.verdict, row.measured, row.limit, row.details) for row in checks.judge(facts, QUALITY)}
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
    judged = examples.judge("starts in time", facts)
    assert (judged.verdict, judged.measured, judged.limit) == (verdict, measured, "30 s")
    cause = "the imports or the model take this long to load, or the machine is busy"
    words = f"{cause}: measure again, load less, or raise limits.ready_seconds"
    assert judged.details == ((words,) if verdict is Verdict.FAIL else ())
    others = {each.verdict for each in checks.judge(facts, QUALITY) if each.name != "starts in time"}
    assert others == {Verdict.PASS}
    assert (
        examples.judge("starts in time", facts, examples.policy(limits={"ready_seconds": 31})).verdict is Verdict.PASS
    )


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
    judged = examples.judge("answers in time", facts)
    assert (judged.verdict, judged.measured, judged.limit) == (verdict, measured, "100 ms")
    words = "the machine may be busy: measure again, or raise limits.latency_ms"
    assert judged.details == ((words,) if verdict is Verdict.WARN else ())
    assert checks.approve(examples.archive(tmp_path), facts, checks.judge(facts, QUALITY))


def test_no_answer_at_all_is_no_fast_one() -> None:
    silent = Facts(smoke=examples.smoke(examples.answer(examples.SMALL, status=0)))
    judged = examples.judge("answers in time", silent)
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
    judged = examples.judge("refuses malformed requests", Facts(smoke=examples.smoke(malformed=malformed)))
    assert (judged.verdict, judged.measured, judged.limit, judged.details) == (verdict, measured, "2", details)
