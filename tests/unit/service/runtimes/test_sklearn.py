from __future__ import annotations

import io
import pickle
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MultiLabelBinarizer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from service.contract import OUTLIER_LABELS, Feature, Interface, Label, Row, Task
from service.runtimes import Answers, PredictionError
from service.runtimes.sklearn import SklearnPredictor, _trees, count_clusters, find_labels

GENERATOR = np.random.default_rng(7)
ROWS = GENERATOR.normal(size=(300, 5))
CLASSES = (ROWS[:, 0] + GENERATOR.normal(size=300) > 0).astype(int) + (ROWS[:, 1] > 1)
VALUES = 3 * ROWS[:, 0] + GENERATOR.normal(size=300)
FEATURES = [Feature(f"f{at}", "number") for at in range(5)]


class Sure(RandomForestClassifier):  # type: ignore[misc]
    """A forest that answers otherwise than its trees do."""

    def predict_proba(self, X: Any) -> Any:  # noqa: ANN401, N803
        return np.round(super().predict_proba(X))


def served(estimator: Any, task: Task = "classification") -> SklearnPredictor:  # noqa: ANN401
    estimator.fit(ROWS, VALUES if task == "regression" else CLASSES)
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    return SklearnPredictor(buffer.getvalue(), Interface(task, FEATURES, has_probabilities=task == "classification"))


@pytest.mark.parametrize("count", [1, 7, 2_000])
@pytest.mark.parametrize(
    ("estimator", "task"),
    [
        (RandomForestClassifier(n_estimators=30, random_state=1), "classification"),
        (
            ExtraTreesClassifier(n_estimators=9, bootstrap=True, class_weight="balanced", random_state=1),
            "classification",
        ),
        (RandomForestRegressor(n_estimators=30, random_state=1), "regression"),
        (ExtraTreesRegressor(n_estimators=10, criterion="absolute_error", random_state=1), "regression"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_forest_asked_tree_by_tree_says_bit_for_bit_what_it_says_itself(
    estimator: Any,  # noqa: ANN401
    task: Task,
    count: int,
) -> None:
    model = served(estimator, task)
    rows = np.random.default_rng(count).normal(size=(count, 5)) * 3
    itself = (
        model.estimator.predict(rows).reshape(-1, 1) if task == "regression" else model.estimator.predict_proba(rows)
    )
    # Otherwise this would hold of a model that is asked as a whole.
    model.predict_numbers = None  # type: ignore[assignment, method-assign]
    assert (np.array(model.predict(rows.tolist()).numbers) == itself).all()


@pytest.mark.parametrize(
    "estimator",
    [
        Sure(n_estimators=5, random_state=1),
        GradientBoostingClassifier(n_estimators=5, random_state=1),
    ],
    ids=["a subclass", "no forest of votes"],
)
def test_what_is_no_plain_forest_is_asked_as_a_whole(estimator: Any) -> None:  # noqa: ANN401
    model = served(estimator)
    assert (np.array(model.predict(ROWS.tolist()).numbers) == model.estimator.predict_proba(ROWS)).all()
    model.predict_numbers = None  # type: ignore[assignment, method-assign]
    with pytest.raises(TypeError):
        model.predict(ROWS.tolist())


def test_a_row_that_is_too_short_is_refused_before_a_tree_reads_beyond_its_end() -> None:
    model = served(RandomForestClassifier(n_estimators=3, random_state=1))
    with pytest.raises(PredictionError):
        model.predict([[1.0, 2.0]])


def test_a_forest_of_several_things_is_asked_as_a_whole() -> None:
    forest = RandomForestRegressor(n_estimators=3, random_state=1).fit(ROWS, np.column_stack([VALUES, VALUES]))
    assert not SklearnPredictor(pickle.dumps(forest), Interface("regression", FEATURES))._trees


def test_a_forest_with_gaps_is_asked_as_a_whole() -> None:
    # Without its own check, a tree does not know where a missing value goes.
    model = served(RandomForestClassifier(n_estimators=5, random_state=1))
    gappy = RandomForestClassifier(n_estimators=5, random_state=1)
    rows = np.where(np.random.default_rng(3).random(ROWS.shape) < 0.2, np.nan, ROWS)
    model.estimator = gappy.fit(rows, CLASSES)
    model._trees = _trees(gappy)
    sent = [[None if value != value else value for value in row] for row in rows.tolist()]
    answers = model.predict(sent)
    assert (np.array(answers.numbers) == gappy.predict_proba(rows)).all()
    assert [model.predict([row]).numbers[0] for row in sent[:20]] == answers.numbers[:20]


def ask(estimator: Any, interface: Interface, rows: list[Row]) -> Answers:  # noqa: ANN401
    return SklearnPredictor(pickle.dumps(estimator), interface).predict(rows)


FLAGS = np.column_stack([CLASSES > 0, VALUES > 0]).astype(int)
LABELS: list[Label] = ["one", "two"]


class SparseClassifier:
    """A model of several labels that answers with a sparse matrix."""

    def predict(self, rows: np.ndarray) -> Any:  # noqa: ANN401
        binarizer = MultiLabelBinarizer(classes=[0, 1], sparse_output=True)
        return binarizer.fit_transform([np.flatnonzero(row > 0) for row in rows[:, :2]])


@pytest.mark.parametrize("has_probabilities", [True, False])
@pytest.mark.parametrize(
    "estimator",
    [RandomForestClassifier(n_estimators=9, random_state=1), OneVsRestClassifier(LogisticRegression())],
    ids=["a pair for each label", "a column for each label"],
)
def test_a_row_may_have_several_labels(estimator: Any, has_probabilities: bool) -> None:  # noqa: ANN401
    estimator.fit(ROWS, FLAGS)
    answers = ask(
        estimator,
        Interface("multilabel", FEATURES, labels=LABELS, has_probabilities=has_probabilities),
        ROWS[:50].tolist(),
    )
    assert answers.labels is None
    assert answers.row_count == 50
    assert answers.label_sets == [np.flatnonzero(row).tolist() for row in estimator.predict(ROWS[:50])]
    assert {len(each) for each in answers.label_sets} == {0, 1, 2}
    numbers = np.array(answers.numbers)
    assert numbers.shape == ((50, 2) if has_probabilities else (0,))
    if has_probabilities:
        # A label is given if its own probability is over a half.
        assert ((numbers > 0.5) == (estimator.predict(ROWS[:50]) == 1)).all()


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestClassifier(n_estimators=5, random_state=1),
        MultiOutputClassifier(DecisionTreeClassifier(random_state=1)),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_label_that_every_row_has_is_certain_and_one_that_none_has_is_not(estimator: Any) -> None:  # noqa: ANN401
    flags = np.column_stack([CLASSES > 0, np.zeros(300), np.ones(300)]).astype(int)
    interface = Interface("multilabel", FEATURES, labels=["some", "no", "every"], has_probabilities=True)
    answers = ask(estimator.fit(ROWS, flags), interface, ROWS[:50].tolist())
    assert {tuple(numbers[1:]) for numbers in answers.numbers} == {(0.0, 1.0)}
    assert {tuple(places[-1:]) for places in answers.label_sets} == {(2,)}
    assert not any(1 in places for places in answers.label_sets)


def test_labels_may_come_as_a_sparse_matrix() -> None:
    interface = Interface("multilabel", FEATURES, labels=LABELS)
    rows: list[Row] = [[1, 1, 0, 0, 0], [-1, 1, 0, 0, 0], [-1, -1, 0, 0, 0]]
    answers = ask(SparseClassifier(), interface, rows)
    assert (answers.label_sets, answers.row_count) == ([[0, 1], [1], []], 3)


def test_several_values_are_a_row_of_numbers() -> None:
    targets = np.column_stack([VALUES, ROWS[:, 1]])
    estimator = LinearRegression().fit(ROWS, targets)
    answers = ask(estimator, Interface("regression", FEATURES, outputs=["a", "b"]), ROWS[:3].tolist())
    assert answers.numbers == estimator.predict(ROWS[:3]).tolist()


def test_an_outlier_has_the_first_label_and_a_score() -> None:
    estimator = IsolationForest(n_estimators=10, random_state=1).fit(ROWS)
    interface = Interface("outliers", FEATURES, labels=list(OUTLIER_LABELS))
    rows: list[Row] = [[1e6] * 5, ROWS[0].tolist()]
    answers = ask(estimator, interface, rows)
    assert [interface.labels[place] for place in answers.labels or []] == estimator.predict(rows).tolist()
    assert answers.numbers == estimator.decision_function(rows).reshape(-1, 1).tolist()
    assert answers.numbers[0][0] < 0


@pytest.mark.parametrize(
    ("estimator", "clusters"),
    [
        (KMeans(3, n_init=1, random_state=1), 3),
        (make_pipeline(StandardScaler(), KMeans(4, n_init=1, random_state=1)), 4),
        (MiniBatchKMeans(2, n_init=1, random_state=1), 2),
        (GaussianMixture(2, random_state=1), 2),
        (BayesianGaussianMixture(n_components=3, max_iter=1000, random_state=1), 3),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_cluster_is_one_of_those_that_the_model_chooses_from(estimator: Any, clusters: int) -> None:  # noqa: ANN401
    estimator.fit(ROWS)
    assert count_clusters(estimator) == clusters
    assert find_labels(estimator, "clustering") == list(range(clusters))
    answers = ask(estimator, Interface("clustering", FEATURES, labels=list(range(clusters))), ROWS.tolist())
    assert answers.labels == estimator.predict(ROWS).tolist()
    assert answers.row_count == len(ROWS)


def test_a_model_of_texts_gets_a_list_of_them() -> None:
    texts = ["a printer", "an invoice", "the printer", "the invoice"]
    estimator = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, ["x", "y", "x", "y"])
    interface = Interface("classification", [Feature("text", "string")], "texts", ["x", "y"], has_probabilities=True)
    answers = ask(estimator, interface, [["my printer"], ["invoice"]])
    assert answers.labels == [0, 1]
    assert answers.numbers == estimator.predict_proba(["my printer", "invoice"]).tolist()


def test_a_label_that_the_model_does_not_have_is_no_answer() -> None:
    class Liar:
        classes_ = ("x", "y")

        def predict(self, rows: np.ndarray) -> np.ndarray:
            return np.array(["z"] * len(rows))

    predictor = SklearnPredictor(pickle.dumps(None), Interface("classification", FEATURES, labels=["x", "y"]))
    predictor.estimator, predictor._places = Liar(), {"x": 0, "y": 1}
    with pytest.raises(PredictionError):
        predictor.predict(ROWS[:1].tolist())
