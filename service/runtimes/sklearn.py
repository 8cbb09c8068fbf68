"""The runtime `sklearn`: scikit-learn itself answers, from the pickle that joblib wrote."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any

import joblib
import numpy as np

from service.contract import Contract, ModelLoadError, Row, Task
from service.runtimes import Answers, PredictionError

# The contract has the names in the model's order, so a model with names may get rows without them, and vice versa.
warnings.filterwarnings("ignore", message="X (does not have valid|has) feature names", category=UserWarning)

# Only these are known to average their trees' answers; a subclass may do something else.
FORESTS = ("RandomForestClassifier", "ExtraTreesClassifier", "RandomForestRegressor", "ExtraTreesRegressor")


class SklearnPredictor:
    """A classifier, or a regressor of one value; alone, or at the end of a pipeline.

    A label is what `predict` says: it is not always the most probable one.
    """

    # A call takes milliseconds. In a thread, it leaves the server free to read the rows of the next call.
    inline = False

    def __init__(self, content: bytes, task: Task, *, has_probabilities: bool = True) -> None:
        """Unpickle `content`. That runs code, so its sha256 must be verified before."""
        self.estimator: Any = joblib.load(io.BytesIO(content))
        limit_jobs(self.estimator)
        self._task = task
        self._has_probabilities = has_probabilities
        self._trees = _trees(self.estimator)
        classes = np.asarray(getattr(self.estimator, "classes_", [])).tolist() if task == "classification" else []
        self._places = {label: place for place, label in enumerate(classes)}

    def predict(self, rows: Sequence[Row]) -> Answers:
        """What the estimator says to these rows.

        Raises PredictionError if the estimator does not take such rows, or an answer is not finite.
        """
        # scikit-learn sums all numbers to see whether they are finite. Very large ones overflow there, and only there.
        with np.errstate(over="ignore", invalid="ignore"):
            try:
                inputs = self.to_input(rows)
                numbers = self._predict_by_trees(inputs) if self._trees else self.predict_numbers(inputs)
                labels = None if self._trees or not self._places else self.predict_labels(inputs)
            except ValueError as error:
                raise PredictionError(
                    "The model does not take one of these rows: a string may be one that it was not trained on."
                ) from error
        if not np.isfinite(numbers).all():
            raise PredictionError("One of these rows is so far from the training data that its answer is not a number.")
        return Answers(numbers.tolist(), labels)

    def to_input(self, rows: Sequence[Row]) -> Any:  # noqa: ANN401 - whatever the estimator was trained on
        """The rows in the form that the estimator takes."""
        return np.asarray(rows, dtype=np.float64)

    def predict_numbers(self, inputs: Any) -> np.ndarray:  # noqa: ANN401
        """The estimator's own probabilities or values for `inputs`: a row of numbers for each, or no row."""
        if self._task == "regression":
            return np.asarray(self.estimator.predict(inputs), dtype=np.float64).reshape(-1, 1)
        return np.asarray(self.estimator.predict_proba(inputs)) if self._has_probabilities else np.empty((0, 0))

    def predict_labels(self, inputs: Any) -> list[int]:  # noqa: ANN401
        """The place of each row's label among the estimator's classes. Raises ValueError if it is another one."""
        labels = np.asarray(self.estimator.predict(inputs)).tolist()
        if unknown := [label for label in labels if label not in self._places]:
            raise ValueError(f"predict says {unknown[0]}, and that is not one of its classes")
        return [self._places[label] for label in labels]

    def _predict_by_trees(self, inputs: np.ndarray) -> np.ndarray:
        """The same bit for bit, in a tenth of the time: a forest hands each tree to a thread pool."""
        # Without its check, a tree reads as many numbers as it was trained with.
        if inputs.shape[1] != self.estimator.n_features_in_:
            raise ValueError("these rows have another number of features")
        # The type in which a forest hands rows to its trees, and the order in which it adds their answers.
        features = inputs.astype(np.float32)
        functions = [tree.predict if self._task == "regression" else tree.predict_proba for tree in self._trees]
        total = sum((function(features, check_input=False) for function in functions), start=np.float64(0))
        return np.asarray(total / len(functions)).reshape(len(inputs), -1)


def load(contract: Contract, content: bytes) -> SklearnPredictor:
    """The pickled estimator of a contract. Raises ModelLoadError if another version of a library wrote it."""
    require_same_versions(contract)
    return SklearnPredictor(content, contract.task, has_probabilities=contract.has_probabilities)


def iter_estimators(estimator: Any) -> Iterator[Any]:  # noqa: ANN401
    """This estimator and all that it holds: steps, members of an ensemble, encoders of columns."""
    seen: set[int] = set()
    pending = [estimator]
    while pending:
        each = pending.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, dict):
            pending += each.values()
        elif isinstance(each, list | tuple) or (isinstance(each, np.ndarray) and each.dtype == object):
            pending += list(each)
        elif hasattr(each, "get_params") and hasattr(each, "__dict__") and not isinstance(each, type):
            yield each
            pending += vars(each).values()


def limit_jobs(estimator: Any) -> None:  # noqa: ANN401
    """Let the estimator answer in this process and thread: to start others takes a second for the first answer."""
    for each in iter_estimators(estimator):
        if vars(each).get("n_jobs") not in (None, 1):
            each.n_jobs = 1


def require_same_versions(contract: Contract) -> None:
    """Raise ModelLoadError if this image has other versions: a pickle only loads with the versions that wrote it."""
    trained = {"python": contract.python, **contract.libraries}
    here = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    here |= {name: _installed_version(name) for name in contract.libraries}
    differing = [f"{name} {trained[name]} (here {here[name]})" for name in trained if trained[name] != here[name]]
    if differing:
        raise ModelLoadError(f"the model was trained with {', '.join(differing)}; train it again with these versions.")


def _installed_version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "not installed"


def _trees(estimator: Any) -> list[Any]:  # noqa: ANN401
    """The trees of scikit-learn's own single-output forest that uses one job; else an empty list."""
    kind = type(estimator)
    # By its name: other models do not need that module.
    if kind.__module__ != "sklearn.ensemble._forest" or kind.__name__ not in FORESTS:
        return []
    return list(estimator.estimators_) if estimator.n_outputs_ == 1 and estimator.n_jobs in (None, 1) else []
