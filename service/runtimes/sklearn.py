"""The runtime `sklearn`: scikit-learn itself answers, from the pickle that joblib wrote."""

from __future__ import annotations

import copy
import io
import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any, Self

import joblib
import numpy as np

from service.contract import OUTLIER_LABELS, Contract, Interface, ModelLoadError, Row, Task
from service.runtimes import Answers, PredictionError

# The contract has the names in the model's order, so a model with names may get rows without them, and vice versa.
warnings.filterwarnings("ignore", message="X (does not have valid|has) feature names", category=UserWarning)

# Only these are known to average their trees' answers; a subclass may do something else.
FORESTS = ("RandomForestClassifier", "ExtraTreesClassifier", "RandomForestRegressor", "ExtraTreesRegressor")


class SklearnPredictor:
    """Any estimator with `predict`; alone, or at the end of a pipeline.

    A label is what `predict` says: it is not always the most probable one.
    """

    # A call takes milliseconds. In a thread, it leaves the server free to read the rows of the next call.
    inline = False

    def __init__(self, content: bytes, interface: Interface) -> None:
        """Unpickle `content`. That runs code, so its sha256 must be verified before."""
        self.estimator: Any = joblib.load(io.BytesIO(content))
        limit_jobs(self.estimator)
        self.interface = interface
        self._trees = _trees(self.estimator)
        self._places = {label: place for place, label in enumerate(find_labels(self.estimator, interface.task))}

    def predict(self, rows: Sequence[Row]) -> Answers:
        """What the estimator says to these rows.

        Raises PredictionError if the estimator does not take such rows, or an answer is not finite.
        """
        # scikit-learn sums all numbers to see whether they are finite. Very large ones overflow there, and only there.
        with np.errstate(over="ignore", invalid="ignore"):
            try:
                inputs = self.to_input(rows)
                by_trees = self._trees and isinstance(inputs, np.ndarray) and not np.isnan(inputs).any()
                numbers = self._predict_by_trees(inputs) if by_trees else self.predict_numbers(inputs)
                labels, sets = None, []
                if self.interface.task == "multilabel":
                    sets = self.predict_label_sets(inputs)
                elif self._places and not self._trees:
                    labels = self.predict_labels(inputs)
            # A table of counts has no place for a value that it does not know.
            except (ValueError, IndexError) as error:
                raise PredictionError(
                    "The model does not take one of these rows: it may have a value that the model does not know."
                ) from error
        if not np.isfinite(numbers).all():
            raise PredictionError("One of these rows is so far from the training data that its answer is not a number.")
        return Answers(numbers.tolist(), labels, sets)

    def with_interface(self, interface: Interface) -> Self:
        """The same estimator, asked in another way."""
        other = copy.copy(self)
        other.interface = interface
        return other

    def to_input(self, rows: Sequence[Row]) -> Any:  # noqa: ANN401 - whatever the estimator was trained on
        """The rows in the form that the estimator takes. A missing value becomes NaN."""
        if self.interface.input == "texts":
            return [text for (text,) in rows]
        return np.asarray(rows, dtype=np.float64)

    def predict_numbers(self, inputs: Any) -> np.ndarray:  # noqa: ANN401
        """The estimator's own probabilities, values or scores for `inputs`, of the shape (rows, numbers of each)."""
        match self.interface.task:
            case "regression":
                values = np.asarray(self.estimator.predict(inputs), dtype=np.float64)
                return values.reshape(len(values), -1)
            case "outliers":
                return np.asarray(self.estimator.decision_function(inputs), dtype=np.float64).reshape(-1, 1)
        if not self.interface.has_probabilities:
            return np.empty((0, 0))
        numbers = self.estimator.predict_proba(inputs)
        if not isinstance(numbers, list):
            return np.asarray(numbers)
        # Several classifiers in one give each label two probabilities: that a row lacks it, and that it has it. A label
        # that no training row had gets the first alone.
        pairs = zip(numbers, self.estimator.classes_, strict=True)
        return np.column_stack([np.where(classes == 0, 1 - pair, pair)[:, -1] for pair, classes in pairs])

    def predict_labels(self, inputs: Any) -> list[int]:  # noqa: ANN401
        """The place of each row's label among the estimator's labels. Raises ValueError if it is another one."""
        labels = np.asarray(self.estimator.predict(inputs)).tolist()
        if unknown := [label for label in labels if label not in self._places]:
            raise ValueError(f"predict says {unknown[0]}, and that is not one of its labels")
        return [self._places[label] for label in labels]

    def predict_label_sets(self, inputs: Any) -> list[list[int]]:  # noqa: ANN401
        """The places of each row's labels."""
        flags = self.estimator.predict(inputs)
        # Some multi-label classifiers answer with a sparse matrix.
        flags = flags.toarray() if hasattr(flags, "toarray") else np.asarray(flags)
        return [np.flatnonzero(row).tolist() for row in flags]

    def _predict_by_trees(self, inputs: np.ndarray) -> np.ndarray:
        """The same bit for bit, in a tenth of the time: a forest hands each tree to a thread pool."""
        # Without its check, a tree reads as many numbers as it was trained with.
        if inputs.shape[1] != self.estimator.n_features_in_:
            raise ValueError("these rows have another number of features")
        # The type in which a forest hands rows to its trees, and the order in which it adds their answers.
        features = inputs.astype(np.float32)
        is_regression = self.interface.task == "regression"
        functions = [tree.predict if is_regression else tree.predict_proba for tree in self._trees]
        total = sum((function(features, check_input=False) for function in functions), start=np.float64(0))
        return np.asarray(total / len(functions)).reshape(len(inputs), -1)


def load(contract: Contract, content: bytes) -> SklearnPredictor:
    """The pickled estimator of a contract. Raises ModelLoadError if another version of a library wrote it."""
    require_same_versions(contract)
    return SklearnPredictor(content, contract.interface)


def find_labels(estimator: Any, task: Task) -> list[Any]:  # noqa: ANN401
    """What `predict` may say of a row that gets one label, as Python's own values; else an empty list."""
    match task:
        case "classification":
            return list(np.asarray(getattr(estimator, "classes_", [])).tolist())
        case "outliers":
            return list(OUTLIER_LABELS)
        case "clustering":
            return list(range(count_clusters(estimator)))
        case _:
            return []


def count_clusters(estimator: Any) -> int:  # noqa: ANN401
    """How many clusters `predict` chooses from; 0 if the estimator does not know."""
    inner = estimator.steps[-1][1] if hasattr(estimator, "steps") else getattr(estimator, "best_estimator_", None)
    if inner is not None:
        return count_clusters(inner)
    last = estimator
    if hasattr(last, "labels_"):
        return int(np.max(last.labels_)) + 1
    return int(getattr(last, "n_components", None) or getattr(last, "n_clusters", None) or 0)


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
