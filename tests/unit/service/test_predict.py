from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from service.contract import Feature, FeatureType, GoldenRow, Label, Row, Value
from service.model import (
    ClassPrediction,
    LabelPrediction,
    LabelsPrediction,
    Model,
    OutlierPrediction,
    Prediction,
    RegressionPrediction,
    ValuesPrediction,
    load_model,
)
from service.predict import describe_answer, random_row
from tests.support.models import run

pytestmark = pytest.mark.slow


def test_a_given_row_is_predicted(breakable: Path) -> None:
    done = run("-m", "service.predict", "--features", "5.1", "3.5", "1.4", "0.2", folder=breakable.parent)
    assert (done.returncode, done.stdout, done.stderr) == (0, "5.1, 3.5, 1.4, 0.2 → setosa (100%)\n", "")


def test_one_seed_gives_one_answer(breakable: Path) -> None:
    first, second = (run("-m", "service.predict", "--seed", "1", folder=breakable.parent) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout == "4.7, 3.6, 4.7, 0.7 → setosa (56%)\n"


def test_a_random_row_lies_between_the_golden_ones_and_differs_by_its_seed(model: Model) -> None:
    columns = list(zip(*(row.features for row in model.contract.golden), strict=True))
    rows = [random_row(model.contract, seed) for seed in range(100)]
    for row in rows:
        assert all(min(column) <= value <= max(column) for value, column in zip(row, columns, strict=True)), row
    assert len({tuple(row) for row in rows}) == 100


def test_a_row_without_a_seed_is_another_one_each_time(model: Model) -> None:
    # Ten times the same row by chance: less likely than one in 10^20.
    assert len({tuple(random_row(model.contract, None)) for _ in range(10)}) > 1


@pytest.mark.parametrize("features", [("1", "2", "3"), ("1", "2", "3", "4", "5")])
def test_a_row_of_another_length_is_a_usage_error(features: tuple[str, ...], breakable: Path) -> None:
    done = run("-m", "service.predict", "--features", *features, folder=breakable.parent)
    assert (done.returncode, done.stdout) == (2, "")
    *_, last = done.stderr.splitlines()
    assert last.startswith("python -m service.predict: error: ")
    assert "row has 4 numbers: sepal length (cm), sepal width (cm), petal length (cm), petal width (cm)" in last


def test_a_regression_says_its_value(diabetes: Path) -> None:
    row = ["0.04", "0.05", "0.06", "0.02", "-0.04", "-0.03", "-0.04", "0", "0.02", "-0.02"]
    done = run("-m", "service.predict", "--features", *row, folder=diabetes.parent)
    said = "0.04, 0.05, 0.06, 0.02, -0.04, -0.03, -0.04, 0.0, 0.02, -0.02 → 221.423\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")


def test_a_random_row_is_no_coarser_than_the_values_that_it_lies_between(diabetes: Path) -> None:
    contract = load_model(diabetes).contract
    columns = list(zip(*(row.features for row in contract.golden), strict=True))
    rows = [random_row(contract, seed) for seed in range(50)]
    for row in rows:
        assert all(min(column) <= value <= max(column) for value, column in zip(row, columns, strict=True)), row
    # All ages lie within a fifth: in tenths there would be three of them.
    assert len({row[0] for row in rows}) > 5


@pytest.mark.parametrize(("column", "drawn"), [([7.0], 7.0), ([1e-7, 1e-7], 1e-7), ([-0.04, 0.04], -0.029)])
def test_few_or_small_values_are_drawn_from_as_well(column: list[float | str], drawn: float, model: Model) -> None:
    probabilities = dict.fromkeys(model.contract.label_texts, 0.5)
    golden = [GoldenRow([value], "setosa", probabilities=probabilities) for value in column]
    contract = msgspec.structs.replace(model.contract, features=[Feature("a", "number")], golden=golden)
    assert random_row(contract, 1) == [drawn]


@pytest.mark.parametrize(
    ("kind", "values", "column", "drawn"),
    [
        ("integer", [], [3, 5], {3, 4, 5}),
        ("integer", [], [3, None, 4.0], {3, 4}),
        ("number", [], [None, 2.5], {2.5}),
        ("number", [], [None, None], {None}),
        ("boolean", [], [True, False, None], {True, False, None}),
        ("string", [], ["a", None], {"a", None}),
        ("category", [1, 7, 9], [1, 9], {1, 9}),
        ("category", ["Basel", "Bern"], ["Bern"], {"Bern"}),
    ],
)
def test_a_value_of_each_type_is_drawn_from_the_golden_ones(
    kind: FeatureType, values: list[Label], column: list[Value], drawn: set[Value], model: Model
) -> None:
    golden = [GoldenRow([value], "setosa", probabilities=model.contract.golden[0].probabilities) for value in column]
    features = [Feature("a", kind, values, missing=True)]
    contract = msgspec.structs.replace(model.contract, features=features, golden=golden)
    rows = [random_row(contract, seed) for seed in range(60)]
    assert {value for (value,) in rows} == drawn
    assert all(features[0].accepts(value) for (value,) in rows)


@pytest.mark.parametrize(
    ("prediction", "words"),
    [
        (RegressionPrediction(12.5), "12.5"),
        (ValuesPrediction({"price": 181.25, "days": 3.0}), "price 181.25, days 3"),
        (LabelsPrediction(["rock", 7, True], {}), "rock, 7, true"),
        (LabelsPrediction([], {"rock": 0.25}), "no label"),
        (OutlierPrediction(-1, -0.25), "-1 (score -0.25)"),
        (ClassPrediction(True, {"true": 0.75, "false": 0.25}), "true (75%)"),
        (LabelPrediction(3), "3"),
    ],
)
def test_an_answer_of_each_task_is_a_few_words(prediction: Prediction, words: str) -> None:
    assert describe_answer(prediction) == words


def test_a_word_is_read_as_a_word_and_a_number_as_a_number(tickets: Path) -> None:
    row = ["7", "phone", "2", "1.5"]
    done = run("-m", "service.predict", "--features", *row, folder=tickets.parent)
    assert (done.returncode, done.stdout, done.stderr) == (0, "7, phone, 2.0, 1.5 → account (66%)\n", "")


def test_a_random_row_has_its_words_from_the_golden_ones(mixed: Model) -> None:
    subjects, channels, years, hours = zip(*(row.features for row in mixed.contract.golden), strict=True)
    rows: list[Row] = [random_row(mixed.contract, seed) for seed in range(50)]
    for subject, channel, customer_years, waiting_hours in rows:
        assert subject in subjects
        assert channel in channels
        assert min(years) <= customer_years <= max(years)
        assert min(hours) <= waiting_hours <= max(hours)
    assert {row[1] for row in rows} == set(channels)


@pytest.mark.parametrize(
    ("features", "why"),
    [
        (("printer", "phone", "two", "1.5"), "customer_years is not a number."),
        (("printer", "phone", "2", "inf"), "waiting_hours is too large, or not finite."),
        (
            ("printer", "phone"),
            "A row has 4 numbers and strings: subject, channel, customer_years, waiting_hours.",
        ),
        (
            ("printer", "phone", "2", "1.5", "billing"),
            "A row has 4 numbers and strings: subject, channel, customer_years, waiting_hours.",
        ),
    ],
)
def test_a_row_that_is_none_of_the_model_is_a_usage_error(features: tuple[str, ...], why: str, tickets: Path) -> None:
    done = run("-m", "service.predict", "--features", *features, folder=tickets.parent)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == f"python -m service.predict: error: {why}"


def test_without_a_model_there_is_one_sentence(tmp_path: Path) -> None:
    done = run("-m", "service.predict", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == ("artifacts/model.json cannot be read (No such file or directory); train the model first.\n")
