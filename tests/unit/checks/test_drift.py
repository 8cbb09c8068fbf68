from __future__ import annotations

import pytest

from drydock.checks import Facts
from drydock.report import CheckResult, Drift, Verdict
from drydock.report.drift import AnswerGroup, RetypedFeature, SchemaChanges
from tests.support import examples

NOTHING_COMPARED = examples.drift(reason="the image before did not start: it hangs", groups=(), schema_changes=None)


def judge(name: str, drift: Drift, **limits: object) -> CheckResult:
    return examples.judge(name, Facts(drift=drift), examples.policy(drift=limits))


def moved(mean: float, unit: str = "standard deviation", **changed: object) -> Drift:
    """Reference rows of a regression."""
    shift = {"unit": unit, "mean": mean, "percentile_99": 0.5, "max": 0.61, "histogram": (0,) * 10}
    values: dict[str, object] = {"origin": "reference", "rows": 40, "labels_changed": None, "shift": shift}
    return examples.drift(groups=(AnswerGroup.model_validate({**values, **changed}),))


def test_exactly_the_limit_of_changed_labels_passes() -> None:
    # Two of 40 rows are 5 %.
    assert judge("answers as before", examples.drift()) == CheckResult(
        name="answers as before",
        measured="2 of 40 changed, shift 0.021",
        limit="5 %, shift 0.1",
        verdict=Verdict.PASS,
    )


@pytest.mark.parametrize(("answers", "verdict"), [("warn", Verdict.WARN), ("reject", Verdict.FAIL)])
def test_more_changed_labels_are_named_by_their_rows_and_never_by_their_values(answers: str, verdict: Verdict) -> None:
    judged = judge("answers as before", examples.drift(), labels_changed_percent=4.9, answers=answers)
    assert (judged.verdict, judged.limit) == (verdict, "4.9 %, shift 0.1")
    assert judged.details == ("reference row 17: small → large", "reference row 31: small → large")


def test_values_are_judged_by_their_mean_shift() -> None:
    assert judge("answers as before", moved(0.1)) == CheckResult(
        name="answers as before", measured="shift 0.1", limit="shift 0.1", verdict=Verdict.PASS
    )
    far = judge("answers as before", moved(0.101), answers="reject")
    assert (far.verdict, far.measured) == (Verdict.FAIL, "shift 0.1")
    assert far.details == ("shift of a standard deviation: mean 0.1, 99th percentile 0.5, largest 0.61",)


def test_rows_without_an_answer_count_for_a_model_without_labels() -> None:
    lost = judge("answers as before", moved(0.0, unanswered=3), answers="reject")
    assert (lost.verdict, lost.measured, lost.limit) == (Verdict.FAIL, "3 of 40 unanswered, shift 0", "5 %, shift 0.1")


def test_the_first_group_is_judged_and_the_notes_are_always_said() -> None:
    golden, between = examples.drift().groups[1:]
    drift = examples.drift(groups=(golden, between), notes=("the contract has no reference rows",))
    judged = judge("answers as before", drift, labels_changed_percent=0)
    assert (judged.verdict, judged.measured) == (Verdict.PASS, "0 of 2 changed")
    assert judged.details == ("the contract has no reference rows",)


@pytest.mark.parametrize("name", ["answers as before", "schema as before"])
def test_without_a_comparison_both_checks_are_skipped_with_its_reason(name: str) -> None:
    judged = judge(name, NOTHING_COMPARED, answers="reject", schema="reject")
    assert (judged.verdict, judged.details) == (Verdict.SKIP, ("the image before did not start: it hangs",))


def test_an_image_that_does_not_answer_may_have_a_schema_all_the_same() -> None:
    drift = examples.drift(groups=(), reason="the image before answered HTTP 500")
    assert judge("answers as before", drift).verdict is Verdict.SKIP
    assert judge("schema as before", drift).verdict is Verdict.PASS
    unknown = judge("schema as before", examples.drift(schema_changes=None))
    assert unknown.details == ("the image before does not say which features it takes",)


@pytest.mark.parametrize(("schema", "verdict"), [("warn", Verdict.WARN), ("reject", Verdict.FAIL)])
def test_each_change_of_the_schema_is_named(schema: str, verdict: Verdict) -> None:
    changes = SchemaChanges(
        task_before="classification",
        task_after="regression",
        features_added=("age",),
        features_removed=("width",),
        features_retyped=(RetypedFeature(name="city", before="string", after="category of 3 values"),),
        features_moved=("height", "depth"),
        labels_added=(True,),
        labels_removed=(1, "large"),
    )
    assert judge("schema as before", examples.drift(schema_changes=changes), schema=schema) == CheckResult(
        name="schema as before",
        measured="8 changes",
        limit="0",
        verdict=verdict,
        details=(
            "task: classification → regression",
            "feature added: age",
            "feature removed: width",
            "feature city: string → category of 3 values",
            "in another place of a list: height, depth",
            "label added: true",
            "label removed: 1",
            "label removed: large",
        ),
    )
