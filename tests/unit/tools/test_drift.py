from __future__ import annotations

from typing import Any

import pytest

from drydock.report import Drift, GoldenAnswer
from drydock.report.drift import AnswerGroup, LabelChange, LabelPair, RetypedFeature, SchemaChanges, Shift
from drydock.tools import drift
from drydock.tools.drift import Feature, Row, Schema
from drydock.tools.predict_client import RowAnswer

CONTRACT = {
    "task": "classification",
    "features": [
        {"name": "age", "type": "integer", "missing": True},
        {"name": "weight", "type": "number"},
        {"name": "city", "type": "category", "values": ["Basel", "Bern"], "private": True},
    ],
    "labels": ["small", 1, True],
}
NAMES = ("age", "weight", "city")
NO_PREDICTIONS: tuple[object, ...] = (
    *(None, [], "a", {}, {"label": None}, {"label": {}}, {"labels": [{}]}),
    *({"value": "3"}, {"value": True}, {"values": {"x": float("nan")}}),
)
SCHEMA = drift.create_schema(CONTRACT)


def label(name: Any) -> GoldenAnswer:  # noqa: ANN401 - whatever a label may be
    return GoldenAnswer(labels=name) if isinstance(name, tuple) else GoldenAnswer(label=name)


def probable(**probabilities: float) -> GoldenAnswer:
    likely = max(probabilities, key=lambda name: probabilities[name])
    return GoldenAnswer(label=likely, probabilities=probabilities)


def valued(value: float) -> GoldenAnswer:
    return GoldenAnswer(value=value)


def rows(count: int, origin: drift.Origin = "reference") -> list[Row]:
    return [Row(origin, number, NAMES, (2 * number, 0.5, "Bern")) for number in range(1, count + 1)]


def test_a_schema_is_read_in_each_form_that_a_contract_has() -> None:
    assert (
        Schema(
            (
                Feature("age", "integer", (), missing=True),
                Feature("weight", "number"),
                Feature("city", "category", ("Basel", "Bern")),
            ),
            ("small", 1, True),
            "classification",
        )
        == SCHEMA
    )
    assert drift.parse_schema({"features": ["a", "b"], "task": "regression", "labels": []}) == Schema(
        (Feature("a"), Feature("b")), (), "regression"
    )


@pytest.mark.parametrize(
    "document",
    [
        *(None, [], {}, {"features": None}, {"features": []}, {"features": [1]}, {"features": [{"name": "a"}]}),
        *({"features": ["a", "a"]}, {"features": 3}),
        {"features": ["a"], "labels": 3},
    ],
)
def test_what_is_no_contract_has_no_schema(document: object) -> None:
    assert drift.parse_schema(document) is None


def test_each_difference_of_two_schemas_is_found() -> None:
    after = drift.create_schema(
        {
            "task": "regression",
            "features": [
                {"name": "weight", "type": "number"},
                {"name": "age", "type": "integer"},
                {"name": "city", "type": "category", "values": ["Bern", "Basel"]},
                {"name": "height", "type": "number"},
            ],
            "labels": ["small", 1.0, False],
        }
    )
    assert drift.compare_schemas(SCHEMA, after) == SchemaChanges(
        task_before="classification",
        task_after="regression",
        features_added=("height",),
        features_retyped=(RetypedFeature(name="age", before="integer, may be missing", after="integer"),),
        features_moved=("weight", "age"),
        labels_added=(False,),
        labels_removed=(True,),
    )
    assert drift.compare_schemas(after, SCHEMA).features_removed == ("height",)
    assert drift.compare_schemas(SCHEMA, SCHEMA) == SchemaChanges(
        task_before="classification", task_after="classification"
    )


def test_a_type_that_is_not_known_is_no_other_type() -> None:
    assert drift.compare_schemas(drift.create_schema({"features": list(NAMES)}), SCHEMA).features_retyped == ()


def test_a_category_with_other_values_is_another_type_and_its_values_are_not_repeated() -> None:
    fewer = Schema((Feature("city", "category", ("Bern",)),))
    [change] = drift.compare_schemas(Schema((Feature("city", "category", ("Basel", "Bern")),)), fewer).features_retyped
    assert change == RetypedFeature(name="city", before="category of 2 values", after="category of 1 values")


def test_the_rows_are_those_of_both_contracts_each_once_and_rows_between() -> None:
    before = {"features": list(reversed(NAMES))}
    golden = [{"features": ["Bern", 0.5, 2]}, {"features": ["Bern", 0.5, 9]}, {"features": [1]}, {}, 5]
    found = drift.collect_rows(SCHEMA, [[1, 0.5, "Basel"], [4, 1.5, "Bern"]], [[1, 0.5, "Basel"]], before)
    assert [(row.origin, row.number) for row in found] == [("reference", 1), ("reference", 2), ("golden", 1)]
    found = drift.collect_rows(SCHEMA, [[1, 0.5, "Basel"], [4, 1.5, "Bern"]], [], {**before, "golden": golden})
    assert [(row.origin, row.number, row.values) for row in drift.choose_rows(SCHEMA, SCHEMA, found)] == [
        ("reference", 1, (1, 0.5, "Basel")),
        ("reference", 2, (4, 1.5, "Bern")),
        ("golden", 1, ("Bern", 0.5, 2)),
        ("golden", 2, ("Bern", 0.5, 9)),
        # The midpoint of numbers, a whole one if the feature takes no other; of anything else the second row's.
        ("between", 1, (2, 1.0, "Bern")),
        ("between", 3, ("Bern", 0.5, 5)),
    ]
    assert len(drift.choose_rows(SCHEMA, SCHEMA, rows(2) + rows(2, "golden"))) == 3


def test_a_row_between_that_is_another_row_is_not_asked_twice() -> None:
    texts = drift.create_schema({"features": [{"name": "text", "type": "string"}]})
    some = [Row("golden", number, ("text",), (word,)) for number, word in enumerate("abc", 1)]
    assert drift.choose_rows(texts, texts, some) == tuple(some)


def test_between_a_value_and_a_missing_one_is_the_value() -> None:
    some = [Row("golden", 1, NAMES, (None, 0.5, True)), Row("golden", 2, NAMES, (4, None, False))]
    assert drift.choose_rows(SCHEMA, SCHEMA, some)[-1].values == (4, 0.5, False)


def test_the_rows_are_bounded_and_so_are_their_values(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(drift.choose_rows(SCHEMA, SCHEMA, rows(1_000))) == 1_999
    assert len(drift.choose_rows(SCHEMA, SCHEMA, rows(4_000))) == 3_000
    monkeypatch.setattr(drift, "MAX_VALUES", 30)
    assert [row.number for row in drift.choose_rows(SCHEMA, SCHEMA, rows(1_000))] == list(range(1, 11))


def test_only_rows_that_have_the_features_of_both_are_asked() -> None:
    less = drift.create_schema({"features": ["weight", "city"]})
    more = drift.create_schema({"features": [*NAMES, "height"]})
    found = rows(2)
    assert len(drift.choose_rows(less, SCHEMA, found)) == 3
    assert drift.describe_skipped_rows(less, SCHEMA, found) == ""
    assert drift.select_values(found[0], less) == [0.5, "Bern"]
    assert drift.choose_rows(more, SCHEMA, found) == ()
    assert drift.describe_skipped_rows(more, SCHEMA, found) == (
        "2 of 2 rows were not asked: they lack a feature that only one image knows (height)"
    )


@pytest.mark.parametrize(
    ("written", "prediction"),
    [
        ({"label": "a"}, label("a")),
        (
            {"label": True, "probabilities": {"true": 1.0, "false": 0.0}, "more": 1},
            GoldenAnswer(label=True, probabilities={"true": 1.0, "false": 0.0}),
        ),
        (
            {"labels": ["a", "b"], "probabilities": {"a": 0.9}},
            GoldenAnswer(labels=("a", "b"), probabilities={"a": 0.9}),
        ),
        ({"labels": []}, label(())),
        ({"value": 3}, valued(3.0)),
        ({"values": {"x": 1.5, "y": 2}}, GoldenAnswer(values={"x": 1.5, "y": 2.0})),
        ({"label": -1, "score": -0.2}, GoldenAnswer(label=-1, score=-0.2)),
        ({"label": "a", "probabilities": {"a": "0.5"}}, None),
        *[(each, None) for each in NO_PREDICTIONS],
    ],
)
def test_a_prediction_is_read_in_the_form_of_each_task(written: object, prediction: GoldenAnswer | None) -> None:
    assert drift.parse_prediction(written) == prediction


def test_labels_that_changed_are_counted_and_named_by_their_rows() -> None:
    before = [label("a"), label("a"), label("b"), label("b"), None]
    after = [label("a"), label("b"), label("b"), None, label("a")]
    [group] = drift.compare_answers(rows(5), before, after)
    assert group == AnswerGroup(
        origin="reference",
        # The image before did not answer the fifth.
        rows=4,
        labels_changed=2,
        unanswered=1,
        label_pairs=(
            LabelPair(before="a", after="a", rows=1),
            LabelPair(before="a", after="b", rows=1),
            LabelPair(before="b", after="b", rows=1),
            LabelPair(before="b", after=None, rows=1),
        ),
        label_changes=(LabelChange(row=2, before="a", after="b"), LabelChange(row=4, before="b", after=None)),
    )
    assert group.changed_percent == 50


def test_labels_are_compared_as_json_has_them() -> None:
    before = [label(1), label(1), label("1"), label(("a", 1)), label(())]
    after = [label(1.0), label(True), label(1), label(("a", 1.0)), label(("a",))]
    [group] = drift.compare_answers(rows(5), before, after)
    assert [change.row for change in group.label_changes] == [2, 3, 5]


def test_at_most_20_rows_are_named() -> None:
    [group] = drift.compare_answers(rows(30), [label("a")] * 30, [label("b")] * 30)
    assert (group.labels_changed, len(group.label_changes)) == (30, 20)
    assert group.label_pairs == (LabelPair(before="a", after="b", rows=30),)


def test_the_groups_are_in_their_order_and_rows_between_are_not_named() -> None:
    both = [*rows(1, "between"), *rows(1, "golden"), *rows(1)]
    groups = drift.compare_answers(both, [label("a")] * 3, [label("b")] * 3)
    assert [(group.origin, len(group.label_changes)) for group in groups] == [
        ("reference", 1),
        ("golden", 1),
        ("between", 0),
    ]


def test_the_shift_of_probabilities_is_the_largest_of_each_row() -> None:
    before = [probable(a=0.5, b=0.375, c=0.125), probable(a=1.0, b=0.0)]
    after = [probable(a=0.5, b=0.125, c=0.375), probable(a=0.25, d=0.75)]
    [group] = drift.compare_answers(rows(2), before, after)
    assert group.shift == Shift(
        unit="probability",
        mean=0.5,
        percentile_99=0.75,
        max=0.75,
        histogram=(0, 0, 0, 1, 0, 0, 0, 0, 0, 1),
    )


def test_the_shift_of_values_is_a_share_of_their_standard_deviation_before() -> None:
    before = [valued(number) for number in (10.0, 30.0, 10.0, 30.0)]
    after = [valued(number) for number in (11.0, 30.0, 10.0, 27.0)]
    [group] = drift.compare_answers(rows(4), before, after)
    assert (group.labels_changed, group.label_pairs) == (None, ())
    assert group.shift
    assert group.shift.unit == "standard deviation"
    assert group.shift.mean == pytest.approx(0.1)
    assert group.shift.max == 0.3


def test_each_of_several_values_has_its_own_deviation_and_new_ones_have_none() -> None:
    before = [GoldenAnswer(values=values) for values in ({"x": 0.0, "y": 0.0}, {"x": 2.0, "y": 2_000.0})]
    after = [GoldenAnswer(values=values) for values in ({"x": 0.5, "y": 100.0, "z": 9.0}, {"x": 2.0, "y": 2_000.0})]
    [group] = drift.compare_answers(rows(2), before, after)
    assert group.shift
    assert group.shift.max == 0.5


def test_values_that_never_differ_count_by_their_own_size() -> None:
    constant = [valued(-4.0)] * 2
    [group] = drift.compare_answers(rows(2), constant, [valued(-5.0)] * 2)
    assert group.shift
    assert group.shift.mean == 0.25
    [same] = drift.compare_answers(rows(2), [valued(0.0)] * 2, [valued(0.0)] * 2)
    assert same.shift
    assert (same.shift.mean, same.shift.histogram) == (0.0, (2, 0, 0, 0, 0, 0, 0, 0, 0, 0))


@pytest.mark.parametrize(
    "other",
    [label("a"), GoldenAnswer(values={"x": 1.0}), None],
)
def test_an_answer_of_another_form_is_none(other: GoldenAnswer | None) -> None:
    [group] = drift.compare_answers(rows(2), [valued(1.0)] * 2, [valued(1.0), other])
    assert (group.labels_changed, group.unanswered, group.changed_percent) == (None, 1, 50)
    several = GoldenAnswer(values={"y": 1.0})
    [group] = drift.compare_answers(rows(1), [several], [other])
    assert (group.unanswered, group.shift) == (1, None)


def test_labels_are_compared_if_only_one_image_gives_probabilities() -> None:
    [group] = drift.compare_answers(rows(2), [label("a")] * 2, [probable(a=1.0), probable(b=1.0)])
    assert (group.labels_changed, group.unanswered, group.shift) == (1, 0, None)


def test_a_shift_that_no_number_can_hold_is_a_large_one() -> None:
    [group] = drift.compare_answers(rows(2), [valued(1e308), valued(-1e308)], [valued(-1e308), valued(1e308)])
    assert group.shift
    assert group.shift.max == drift.MAX_SHIFT


def test_the_99th_percentile_leaves_one_row_of_a_hundred_out() -> None:
    before = [probable(a=1.0)] * 200
    after = [probable(a=1.0)] * 198 + [probable(a=0.5)] * 2
    [group] = drift.compare_answers(rows(200), before, after)
    assert group.shift
    assert (group.shift.percentile_99, group.shift.max) == (0.0, 0.5)


def answers(*statuses: int | None) -> list[RowAnswer | None]:
    return [
        None if status is None else RowAnswer(status, {"label": "a"} if status == 200 else None) for status in statuses
    ]


def test_a_comparison_says_how_many_rows_were_asked_and_which_were_refused() -> None:
    before, after = answers(200, 422, 422, 200, None), answers(200, 200, 200, 422, 200)
    found = drift.conclude(Drift(notes=("no reference rows",)), rows(5), before, after)
    assert (found.rows_asked, found.reason) == (4, "")
    assert [(group.rows, group.unanswered) for group in found.groups] == [(2, 1)]
    assert found.notes == (
        "no reference rows",
        "the image before answered HTTP 422 for 2 of 4 rows; they are not compared",
        "1 of 5 rows were not asked: time was up",
    )


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (answers(500, 500, 503), "the image before answered HTTP 500"),
        (answers(0, None, None), "the image before gave no answer in time"),
        (answers(None, None, None), "the image before gave no answer in time"),
        ([RowAnswer(200, 5)] * 3, "the image before gave an answer that is no prediction"),
    ],
)
def test_an_image_that_answers_nothing_is_a_reason(before: list[RowAnswer | None], reason: str) -> None:
    found = drift.conclude(Drift(), rows(3), before, answers(200, 200, 200))
    assert (found.groups, found.reason) == ((), reason)
