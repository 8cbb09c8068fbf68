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


class Pickled:
    """A classifier with `predict_proba`, or a regressor of one value; alone, or at the end of a pipeline."""

    # A call takes milliseconds: meanwhile others are listened to, and go together in the next one.
    inline = False

    def __init__(self, content: bytes, task: Task) -> None:
        """Unpickle `content`, which runs code: its sha256 has to be known by then."""
        self.estimator: Any = joblib.load(io.BytesIO(content))
        self._task = task

    def answer(self, rows: Sequence[Row]) -> list[list[float]]:
        """What the estimator says of each row: the labels' probabilities in their order, or the one value.

        Raises NoAnswer where it takes such rows not at all, or says no finite number of one.
        """
        # scikit-learn sums all numbers to see whether they are finite: very large ones overflow there, and only there.
        with np.errstate(over="ignore", invalid="ignore"):
            try:
                answers = self._ask(self.table(rows))
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

    def _ask(self, table: Any) -> np.ndarray:  # noqa: ANN401
        if self._task == "regression":
            return np.asarray(self.estimator.predict(table), dtype=np.float64).reshape(-1, 1)
        return np.asarray(self.estimator.predict_proba(table))


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
