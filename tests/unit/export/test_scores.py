"""Each score is scikit-learn's, and its interval covers what other rows would have given."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from export.scores import describe_scores, score_classifier, score_regressor
from service.contract import Holdout

GENERATOR = np.random.default_rng(3)
LABELS = ["a", "b", "c"]
RIGHT = GENERATOR.integers(3, size=90)
PREDICTED = np.where(GENERATOR.random(90) < 0.8, RIGHT, GENERATOR.integers(3, size=90))
PROBABILITIES = GENERATOR.dirichlet([1, 1, 1], size=90)


def test_the_scores_of_a_classification_are_scikit_learns() -> None:
    holdout = score_classifier(LABELS, RIGHT, PREDICTED, PROBABILITIES)
    expected = {
        "accuracy": metrics.accuracy_score(RIGHT, PREDICTED),
        "balanced_accuracy": metrics.balanced_accuracy_score(RIGHT, PREDICTED),
        "log_loss": metrics.log_loss(RIGHT, PROBABILITIES),
    }
    for name, score in (("precision", metrics.precision_score), ("recall", metrics.recall_score)):
        values = score(RIGHT, PREDICTED, average=None)
        expected |= {f"{name}.{label}": value for label, value in zip(LABELS, values, strict=True)}
    assert holdout.rows == 90
    assert holdout.scores == pytest.approx(expected, rel=1e-3)
    assert list(holdout.scores) == list(expected)
    for name, (low, high) in holdout.intervals.items():
        assert low <= holdout.scores[name] <= high, name
        assert low < high, name


def test_the_scores_of_a_regression_are_scikit_learns() -> None:
    right = GENERATOR.normal(size=60)
    predicted = right + GENERATOR.normal(size=60) / 2
    expected = {
        "r2": metrics.r2_score(right, predicted),
        "mean_absolute_error": metrics.mean_absolute_error(right, predicted),
    }
    assert score_regressor([], right[:, None], predicted[:, None]).scores == pytest.approx(expected, rel=1e-3)


def test_the_same_rows_give_the_same_interval_and_more_rows_a_narrower_one() -> None:
    few = score_classifier(LABELS, RIGHT, PREDICTED, PROBABILITIES)
    assert few == score_classifier(LABELS, RIGHT, PREDICTED, PROBABILITIES)
    many = score_classifier(LABELS, np.tile(RIGHT, 9), np.tile(PREDICTED, 9), np.tile(PROBABILITIES, (9, 1)))
    assert many.scores == few.scores
    widths = [high - low for holdout in (few, many) for low, high in [holdout.intervals["accuracy"]]]
    # Of a share, the width falls with the root of the number of rows.
    assert widths[0] / widths[1] == pytest.approx(3, rel=0.2)


def test_the_interval_holds_the_true_accuracy_in_about_95_of_100_tries() -> None:
    generator = np.random.default_rng(5)
    hits = 0
    for _ in range(100):
        right = np.zeros(60, int)
        low, high = score_classifier(
            ["a", "b"], right, (generator.random(60) > 0.8).astype(int), np.zeros(0)
        ).intervals["accuracy"]
        hits += low <= 0.8 <= high
    assert 88 <= hits <= 100


def test_what_these_rows_cannot_say_is_no_score() -> None:
    never = score_classifier(LABELS, np.array([0, 0, 1]), np.array([0, 1, 1]), np.zeros((0, 0)))
    assert list(never.scores) == ["accuracy", "balanced_accuracy", "precision.a", "precision.b", "recall.a", "recall.b"]
    two = np.array([[1.0, 1.0], [1.0, 2.0]])
    assert score_regressor(["same", "other"], two, two).scores["r2"] == 1
    assert "r2" not in score_regressor([], np.array([[1.0], [1.0]]), np.array([[1.0], [2.0]])).scores


def test_scores_are_described_with_their_interval_and_their_rows() -> None:
    holdout = Holdout(38, {"accuracy": 0.9211, "recall.a": 1.0}, {"accuracy": (0.8158, 1.0), "recall.a": (1.0, 1.0)})
    assert describe_scores(holdout) == "accuracy 0.9211 (0.8158 to 1) on 38 rows"
