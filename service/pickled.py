"""The runtimes sklearn and frame: the pickle that joblib wrote, answered by scikit-learn itself."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any

import joblib
import numpy as np

from service.contract import Kind, Row, Task
from service.model import NoAnswer

# Trained with names and asked without, or the other way round: the contract has the names, in this order.
warnings.filterwarnings("ignore", message="X (does not have valid|has) feature names", category=UserWarning)

# Of these alone it is known what they make of their trees' answers; a subclass may make something else of them.
FORESTS = ("RandomForestClassifier", "ExtraTreesClassifier", "RandomForestRegressor", "ExtraTreesRegressor")


class Pickled:
    """A classifier with `predict_proba`, or a regressor of one value; alone, or at the end of a pipeline."""

    # A call takes milliseconds: meanwhile others are listened to, and go together in the next one.
    inline = False

    def __init__(self, content: bytes, task: Task) -> None:
        """Unpickle `content`, which runs code: its sha256 has to be known by then."""
        self.estimator: Any = joblib.load(io.BytesIO(content))
        self._task = task
        self._trees = _trees(self.estimator)

    def answer(self, rows: Sequence[Row]) -> list[list[float]]:
        """What the estimator says of each row: the labels' probabilities in their order, or the one value.

        Raises NoAnswer where it takes such rows not at all, or says no finite number of one.
        """
        # scikit-learn sums all numbers to see whether they are finite: very large ones overflow there, and only there.
        with np.errstate(over="ignore", invalid="ignore"):
            try:
                table = self.table(rows)
                answers = self._by_trees(table) if self._trees else self.whole(table)
            except ValueError as error:
                raise NoAnswer(
                    "The model does not take one of these rows: a word may be one that it was not trained on."
                ) from error
        if not np.isfinite(answers).all():
            raise NoAnswer("One of these rows is so far from all that the model knows that its answer is no number.")
        told: list[list[float]] = answers.tolist()
        return told

    def table(self, rows: Sequence[Row]) -> Any:  # noqa: ANN401 - whatever the estimator was trained on
        """The rows as the estimator takes them."""
        return np.asarray(rows, dtype=np.float64)

    def whole(self, table: Any) -> np.ndarray:  # noqa: ANN401
        """What the estimator itself says of rows as it takes them: a row of numbers for each."""
        if self._task == "regression":
            return np.asarray(self.estimator.predict(table), dtype=np.float64).reshape(-1, 1)
        return np.asarray(self.estimator.predict_proba(table))

    def _by_trees(self, table: np.ndarray) -> np.ndarray:
        """The same bit for bit, in a tenth of the time: a forest makes of each tree a job for a pool of threads."""
        # A tree that is not told to check reads as many numbers as it was trained with.
        if table.shape[1] != self.estimator.n_features_in_:
            raise ValueError("these rows have another number of features")
        # As a forest hands them to its trees, and sums what they say.
        given = table.astype(np.float32)
        ask = [tree.predict if self._task == "regression" else tree.predict_proba for tree in self._trees]
        total = sum((each(given, check_input=False) for each in ask), start=np.float64(0))
        return np.asarray(total / len(ask)).reshape(len(table), -1)


class Framed(Pickled):
    """The same, asked with pandas' data frames."""

    def __init__(self, content: bytes, task: Task, features: Sequence[str], kinds: Sequence[Kind]) -> None:
        """Unpickle `content`; `features` and `kinds` are the contract's."""
        import pandas

        self._pandas = pandas
        self._types = {
            name: "float64" if kind == "number" else "object" for name, kind in zip(features, kinds, strict=True)
        }
        super().__init__(content, task)

    def table(self, rows: Sequence[Row]) -> Any:  # noqa: ANN401
        """A data frame with the features' names."""
        columns = zip(self._types.items(), zip(*rows, strict=True), strict=True)
        series = self._pandas.Series
        return self._pandas.DataFrame({name: series(values, dtype=kind) for (name, kind), values in columns})


def _trees(estimator: Any) -> list[Any]:  # noqa: ANN401
    """The trees of a forest of scikit-learn's own that answers one thing, one tree after the other; else none."""
    kind = type(estimator)
    # By its name, since a model that is none has no need of that module.
    if kind.__module__ != "sklearn.ensemble._forest" or kind.__name__ not in FORESTS:
        return []
    return list(estimator.estimators_) if estimator.n_outputs_ == 1 and estimator.n_jobs in (None, 1) else []
