from __future__ import annotations

import io
import pickle
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)

from service.contract import Task
from service.runtimes import PredictionError
from service.runtimes.sklearn import SklearnPredictor

GENERATOR = np.random.default_rng(7)
ROWS = GENERATOR.normal(size=(300, 5))
CLASSES = (ROWS[:, 0] + GENERATOR.normal(size=300) > 0).astype(int) + (ROWS[:, 1] > 1)
VALUES = 3 * ROWS[:, 0] + GENERATOR.normal(size=300)


class Sure(RandomForestClassifier):  # type: ignore[misc]
    """A forest that answers otherwise than its trees do."""

    def predict_proba(self, X: Any) -> Any:  # noqa: ANN401, N803
        return np.round(super().predict_proba(X))


def served(estimator: Any, task: Task = "classification") -> SklearnPredictor:  # noqa: ANN401
    estimator.fit(ROWS, VALUES if task == "regression" else CLASSES)
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    return SklearnPredictor(buffer.getvalue(), task)


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
    assert not SklearnPredictor(pickle.dumps(forest), "regression")._trees
