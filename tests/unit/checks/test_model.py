from __future__ import annotations

import math
from typing import Any

import pytest

from drydock.checks import Facts
from drydock.report import Answer, CheckResult, Contract, Verdict
from tests.support import examples

ANSWERS = "answers /predict as trained"


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
        (
            examples.answer(examples.SMALL.model_copy(update={"label": 1}), "1"),
            'row [1.0, 2.0]: expected 1, got "1"',
        ),
        (
            examples.answer(examples.SMALL.model_copy(update={"label": 1}), label=True),
            "row [1.0, 2.0]: expected 1, got true",
        ),
        (examples.answer(examples.SMALL, status=500), "row [1.0, 2.0]: expected small, got HTTP 500"),
        (examples.answer(examples.SMALL, status=0), "row [1.0, 2.0]: expected small, got no answer"),
    ],
)
def test_a_wrong_answer_shows_expected_beside_got(answer: Answer, why: str) -> None:
    judged = examples.judge(ANSWERS, Facts(smoke=examples.smoke(answer, examples.answer(examples.LARGE))))
    assert (judged.verdict, judged.measured, judged.limit) == (Verdict.FAIL, "1 of 2 rows", "2")
    assert judged.details == (why,)


def test_a_probability_within_the_contracts_tolerance_is_right() -> None:
    close = examples.answer(examples.SMALL, probabilities={"small": 0.75 + 9e-7, "large": 0.25 - 9e-7})
    assert examples.judge(ANSWERS, Facts(smoke=examples.smoke(close))).verdict is Verdict.PASS


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
    judged = examples.judge(ANSWERS, Facts(smoke=smoke))
    assert (judged.verdict, judged.measured, judged.details) == (Verdict.FAIL, "1 of 2 rows", (why,))


@pytest.mark.parametrize("value", [181.3, 182.5, 180.0])
def test_a_value_within_the_contracts_tolerance_is_right(value: float) -> None:
    smoke = examples.smoke(examples.value_answer(examples.CHEAP, value), tolerance=1.5)
    assert examples.judge(ANSWERS, Facts(smoke=smoke)).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (
            examples.right_answer(examples.TAGGED, labels=("round",)),
            "row [1.0, 2.0]: expected red, round, got round",
        ),
        (
            examples.right_answer(examples.TAGGED, labels=("round", "red")),
            "row [1.0, 2.0]: expected red, round, got round, red",
        ),
        (
            examples.right_answer(examples.UNTAGGED, labels=("red",)),
            "row [8.0, 9.0]: expected no label, got red",
        ),
        (
            examples.right_answer(examples.TAGGED.model_copy(update={"labels": (1,)}), labels=("1",)),
            'row [1.0, 2.0]: expected [1], got ["1"]',
        ),
        (
            examples.right_answer(examples.TAGGED, probabilities={"red": 0.75, "round": 0.51}),
            "row [1.0, 2.0]: expected probabilities {'red': 0.75, 'round': 0.5}, got {'red': 0.75, 'round': 0.51}",
        ),
        (
            examples.right_answer(examples.TAGGED, labels=None),
            "row [1.0, 2.0]: expected red, round, got an answer of another form",
        ),
        (
            examples.right_answer(examples.TAGGED, labels=None, label="red"),
            "row [1.0, 2.0]: expected red, round, got an answer of another form",
        ),
        (
            examples.right_answer(examples.PLACE, values={"north": 47.502, "height": 400.0}),
            "row [1.0, 2.0]: expected north 47.5, got 47.502",
        ),
        (
            examples.right_answer(examples.PLACE, values={"north": 47.5, "height": 401.5}),
            "row [1.0, 2.0]: expected height 400.0, got 401.5",
        ),
        (
            examples.right_answer(examples.PLACE).model_copy(update={"values": {"north": math.nan, "height": 400.0}}),
            "row [1.0, 2.0]: expected north 47.5, got nan",
        ),
        (
            examples.right_answer(examples.PLACE, values={"north": 47.5}),
            "row [1.0, 2.0]: expected {'north': 47.5, 'height': 400.0}, got an answer of another form",
        ),
        (
            examples.right_answer(examples.PLACE, values={"north": 47.5, "height": 400.0, "depth": 1.0}),
            "row [1.0, 2.0]: expected {'north': 47.5, 'height': 400.0}, got an answer of another form",
        ),
        (
            examples.right_answer(examples.PLACE, values={}, value=47.5),
            "row [1.0, 2.0]: expected {'north': 47.5, 'height': 400.0}, got an answer of another form",
        ),
        (examples.right_answer(examples.USUAL, label=-1), "row [1.0, 2.0]: expected 1, got -1"),
        (examples.right_answer(examples.USUAL, score=0.2), "row [1.0, 2.0]: expected the score 0.125, got 0.2"),
        (
            examples.right_answer(examples.USUAL, score=None),
            "row [1.0, 2.0]: expected 1, got an answer of another form",
        ),
        (examples.right_answer(examples.FIRST_CLUSTER, label=1), "row [1.0, 2.0]: expected 0, got 1"),
        (examples.right_answer(examples.FIRST_CLUSTER, label=False), "row [1.0, 2.0]: expected 0, got false"),
        (
            examples.right_answer(examples.FIRST_CLUSTER, score=0.0),
            "row [1.0, 2.0]: expected 0, got an answer of another form",
        ),
    ],
)
def test_a_wrong_answer_of_each_other_task_shows_expected_beside_got(answer: Answer, why: str) -> None:
    smoke = examples.smoke(answer, output_tolerances={"north": 0.001, "height": 1.0})
    judged = examples.judge(ANSWERS, Facts(smoke=smoke))
    assert (judged.verdict, judged.details) == (Verdict.FAIL, (why,))


@pytest.mark.parametrize(
    "answer",
    [
        *map(examples.right_answer, (examples.TAGGED, examples.UNTAGGED, examples.PLACE, examples.OTHER_PLACE)),
        *map(examples.right_answer, (examples.USUAL, examples.STRANGE, examples.FIRST_CLUSTER)),
        examples.right_answer(examples.TAGGED, probabilities={"red": 0.75 + 9e-7, "round": 0.5}),
        # Each value has a tolerance of its own.
        examples.right_answer(examples.PLACE, values={"north": 47.5009, "height": 400.9}),
        examples.right_answer(examples.PLACE, values={"height": 400.0, "north": 47.5}),
        examples.right_answer(examples.STRANGE, score=-0.25 - 9e-7),
    ],
)
def test_a_right_answer_of_each_other_task_is_right(answer: Answer) -> None:
    smoke = examples.smoke(answer, output_tolerances={"north": 0.001, "height": 1.0})
    assert examples.judge(ANSWERS, Facts(smoke=smoke)).verdict is Verdict.PASS


def test_a_row_is_shown_as_json_and_private_values_are_hidden() -> None:
    row = examples.TYPED.golden[1]
    wrong = examples.right_answer(examples.TYPED.hide_private(row), label=1)
    assert examples.judge(ANSWERS, Facts(smoke=examples.smoke(wrong))).details == (
        "row ['Bern', 0, false, 1.0, '…']: expected 2, got 1",
    )
    # What is missing is private as well.
    wrong = examples.right_answer(examples.TYPED.hide_private(examples.TYPED_ROW), label=2)
    assert examples.judge(ANSWERS, Facts(smoke=examples.smoke(wrong))).details == (
        "row ['Basel', 3, true, 12.5, '…']: expected 1, got 2",
    )
    missing = examples.TYPED_ROW.model_copy(update={"features": (None, 3)})
    assert examples.judge(ANSWERS, Facts(smoke=examples.smoke(examples.right_answer(missing, label=2)))).details == (
        "row [null, 3]: expected 1, got 2",
    )


def test_a_value_of_0_is_an_answer_like_any_other() -> None:
    nothing = examples.CHEAP.model_copy(update={"value": 0.0})
    right = examples.smoke(examples.value_answer(nothing, 0.0), tolerance=0.0)
    assert examples.judge(ANSWERS, Facts(smoke=right)).verdict is Verdict.PASS
    wrong = examples.smoke(examples.value_answer(nothing, 1.0), tolerance=0.0)
    assert examples.judge(ANSWERS, Facts(smoke=wrong)).details == ("row [1.0, 2.0]: expected 0.0, got 1.0",)


def test_of_a_long_text_in_a_row_only_its_beginning_is_shown() -> None:
    long = examples.OPEN.model_copy(update={"features": ("a" * 40, 2.0, "it's " + "b" * 36)})
    judged = examples.judge(ANSWERS, Facts(smoke=examples.smoke(examples.answer(long, "later"))))
    shown = f"""['{"a" * 40}', 2.0, "it's {"b" * 34}…"]"""
    assert judged.details == (f"row {shown}: expected urgent, got later",)


def test_a_container_that_never_got_ready_shows_the_tail_of_its_log() -> None:
    log = "\n".join(f"line {number}" for number in range(100))
    smoke = examples.smoke(ready_seconds=None, not_ready="it ended with exit code 1", log=log)
    judged = examples.judge(ANSWERS, Facts(smoke=smoke), examples.policy(limits={"log_lines": 2}))
    assert (judged.verdict, judged.measured, judged.limit) == (Verdict.FAIL, "not ready", "60 s")
    assert judged.details == ("it ended with exit code 1", "line 98", "line 99")


def test_only_three_wrong_answers_are_shown() -> None:
    wrong = [examples.answer(examples.SMALL, status=500)] * 5
    assert len(examples.judge(ANSWERS, Facts(smoke=examples.smoke(*wrong))).details) == 3


def judge_quality(contract: Contract, **limits: object) -> CheckResult:
    facts = examples.facts()
    facts.model = contract
    return examples.judge("model is good enough", facts, examples.policy(quality=limits))


@pytest.mark.parametrize(
    ("contract", "limits", "verdict", "measured", "limit"),
    [
        (examples.CONTRACT, {"min": {"accuracy": 0.95}}, "PASS", "accuracy 0.95 (0.86 to 1) on 38 rows", ">= 0.95"),
        (examples.CONTRACT, {"min": {"accuracy": 0.951}}, "FAIL", "accuracy 0.95 (0.86 to 1) on 38 rows", ">= 0.951"),
        (
            examples.REGRESSION,
            {"min": {"r2": 0}, "max": {"mean_absolute_error": 44}},
            "FAIL",
            "r2 0.4511 (0.31 to 0.55), mean absolute error 44.1 (39.2 to 49.7) on 111 rows",
            ">= 0, <= 44",
        ),
        (examples.CONTRACT, {"min": {"recall": {"small": 0.5}}}, "FAIL", "no such score on 38 rows", ">= 0.5"),
    ],
)
def test_a_model_must_be_as_good_as_the_policy_says(
    contract: Contract, limits: dict[str, Any], verdict: str, measured: str, limit: str
) -> None:
    judged = judge_quality(contract, **limits)
    assert (judged.verdict, judged.measured, judged.limit) == (Verdict(verdict), measured, limit)


def test_a_score_beyond_its_limit_or_a_score_that_is_not_there_is_named() -> None:
    worse = judge_quality(examples.REGRESSION, max={"mean_absolute_error": 44})
    assert worse.details == ("mean absolute error 44.1 (39.2 to 49.7), limit <= 44",)
    unknown = judge_quality(examples.CONTRACT, min={"recall": {"small": 0.5}})
    assert unknown.details == ("the contract has no recall.small; it has accuracy",)


def test_without_limits_the_score_is_shown_and_not_judged() -> None:
    judged = judge_quality(examples.REGRESSION)
    assert (judged.verdict, judged.details) == (
        Verdict.SKIP,
        ("[quality] has no limit; r2 0.4511 (0.31 to 0.55), mean absolute error 44.1 (39.2 to 49.7) on 111 rows",),
    )


def test_a_score_that_is_no_number_is_within_no_limit() -> None:
    holdout = examples.CONTRACT.holdout.model_copy(update={"scores": {"accuracy": float("nan")}})
    contract = examples.CONTRACT.model_copy(update={"holdout": holdout})
    assert judge_quality(contract, min={"accuracy": 0}).verdict is Verdict.FAIL


def test_scores_of_other_names_are_shown_too() -> None:
    holdout = examples.CONTRACT.holdout.model_copy(update={"scores": {"auc": 0.9}, "intervals": {}})
    contract = examples.CONTRACT.model_copy(update={"holdout": holdout})
    assert judge_quality(contract).details == ("[quality] has no limit; auc 0.9 on 38 rows",)
