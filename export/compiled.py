"""Converts a trained forest for the runtime `compiled`, and proves that both give the same answers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.pipeline import Pipeline
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor

from export.errors import ConversionError
from service.contract import Artifact, Contract, Equivalence, write_contract
from service.model import load_model
from service.runtimes import compiled
from service.runtimes.compiled import HEADER, MAGIC, NODE, ForestPredictor
from service.runtimes.sklearn import SklearnPredictor

MODEL_FILE = "model.forest"
TRAINING_ROWS = "training.npy"
FORESTS = (RandomForestClassifier, ExtraTreesClassifier, RandomForestRegressor, ExtraTreesRegressor)
TREES = (DecisionTreeClassifier, ExtraTreeClassifier, DecisionTreeRegressor, ExtraTreeRegressor)
RANDOM_ROWS = 10_000
# Each split gets three rows. A large forest has too many splits to compare them all.
MAX_SPLITS = 10_000
ONE_GAP_SHARE = 0.5
# Of a piece of rows. As Python's lists they take four times as much.
PIECE_BYTES = 16_000_000
# The layout of NODE in service/runtimes/compiled.py.
NODES = np.dtype([("threshold", "<f8"), ("feature", "<i4"), ("left", "<i4"), ("right", "<i4"), ("missing_left", "<i4")])


class ComparisonRows:
    """The rows that both models are compared on, as 64-bit floats, in pieces: all at once can be gigabytes.

    `training` are all known rows. `edges` are rows near at most MAX_SPLITS splits: for each, three known rows get its
    feature's value just before the threshold, on it and just behind it. A row need not reach that split. `random` are
    RANDOM_ROWS rows in the range of all others. `gaps` are known rows without some of the features that may be missing.
    """

    def __init__(self, estimator: Any, contract: Contract, training: Path) -> None:  # noqa: ANN401
        """Read the known rows from the file `training`, or take the golden ones if there is none."""
        golden = np.array([row.features for row in contract.golden], float)
        self._known = np.load(training, allow_pickle=False) if training.exists() else golden
        trees = [tree.tree_ for tree in _estimators(estimator)]
        feature = np.concatenate([tree.feature for tree in trees])
        threshold = np.concatenate([tree.threshold for tree in trees])
        self._generator = np.random.default_rng(42)
        # At a threshold of infinity, a tree asks only whether the value is missing.
        splits = np.flatnonzero((feature >= 0) & np.isfinite(threshold))
        splits = self._generator.permutation(splits)[:MAX_SPLITS]
        self._features = feature[splits]
        # Features are compared as 32-bit floats: the last that goes left, the one between, the first that goes right.
        value = threshold[splits].astype(np.float32)
        sides = [np.nextafter(value, np.float32(-np.inf)), value, np.nextafter(value, np.float32(np.inf))]
        self._sides = np.stack(sides).astype(np.float64)
        self._places = self._generator.integers(len(self._known), size=len(splits))
        # Both pass over gaps, without a copy of the rows. A column may have gaps alone.
        self._low, self._high = (
            np.nan_to_num(extreme(extreme.reduce(self._known, axis=0), extreme.reduce(golden, axis=0)))
            for extreme in (np.fmin, np.fmax)
        )
        np.minimum.at(self._low, self._features, self._sides[0])
        np.maximum.at(self._high, self._features, self._sides[2])
        self._missing = np.array([feature.missing for feature in contract.features])
        self._piece = max(1, PIECE_BYTES // (8 * len(contract.features)))

    def training(self) -> Iterator[np.ndarray]:
        """The known rows, in pieces."""
        return (self._known[start : start + self._piece] for start in range(0, len(self._known), self._piece))

    def edges(self) -> Iterator[np.ndarray]:
        """The rows near splits, in pieces."""
        for side in self._sides:
            for start in range(0, len(side), self._piece):
                chosen = slice(start, start + self._piece)
                rows = self._known[self._places[chosen]]
                rows[np.arange(len(rows)), self._features[chosen]] = side[chosen]
                yield rows

    def random(self) -> Iterator[np.ndarray]:
        """The random rows, in pieces."""
        for start in range(0, RANDOM_ROWS, self._piece):
            count = min(self._piece, RANDOM_ROWS - start)
            yield self._generator.uniform(self._low, self._high, (count, len(self._low)))

    def gaps(self) -> Iterator[np.ndarray]:
        """Known rows with gaps, in pieces; none if no feature may be missing."""
        for start in range(0, RANDOM_ROWS if self._missing.any() else 0, self._piece):
            count = min(self._piece, RANDOM_ROWS - start)
            rows = self._known[self._generator.integers(len(self._known), size=count)]
            # One row in two lacks one feature, and the others lack any number of them.
            gap = self._generator.random(rows.shape) < self._generator.random((count, 1))
            places = self._generator.choice(np.flatnonzero(self._missing), size=count)
            is_one = self._generator.random((count, 1)) < ONE_GAP_SHARE
            gap = np.where(is_one, np.arange(rows.shape[1]) == places[:, None], gap & self._missing)
            yield np.where(gap, np.nan, rows)


class Comparison(NamedTuple):
    """How many rows two models were asked, and the largest difference between two answers."""

    rows: int
    max_abs_difference: float


def convert(source: Path, target: Path) -> str:
    """Write model.forest and its contract into `target`, from the model and the contract in `source`.

    Returns a summary of the comparison. Raises ModelLoadError if the model is not its contract's, and ConversionError.
    """
    model = load_model(source)
    contract, predictor = model.contract, model.predictor
    if not isinstance(predictor, SklearnPredictor):
        raise ConversionError(f"a model of the {contract.runtime} runtime cannot be converted")
    check_features(contract)
    content = flatten_trees(predictor.estimator)
    artifact = Artifact(MODEL_FILE, hashlib.sha256(content).hexdigest(), len(content))
    rows, forest = (
        ComparisonRows(predictor.estimator, contract, source / TRAINING_ROWS),
        compiled.load(contract, content),
    )
    parts = {
        kind: compare(contract, pieces, predictor, forest)
        for kind, pieces in (
            ("training", rows.training()),
            ("edge", rows.edges()),
            ("random", rows.random()),
            ("gap", rows.gaps()),
        )
    }
    count, difference = (
        sum(part.rows for part in parts.values()),
        max(part.max_abs_difference for part in parts.values()),
    )
    converted = msgspec.structs.replace(
        contract,
        runtime="compiled",
        artifact=artifact,
        equivalence=Equivalence(contract.artifact.sha256, count, difference),
    )
    target.mkdir(parents=True, exist_ok=True)
    (target / MODEL_FILE).write_bytes(content)
    write_contract(converted, target)
    *others, last = [f"{part.rows} {kind}" for kind, part in parts.items() if part.rows]
    return (
        f"{target / MODEL_FILE}: equivalent on {', '.join(others)} and {last} rows, largest difference {difference:g}, "
        f"limit {contract.tolerance:g}"
    )


def check_features(contract: Contract) -> None:
    """Raise ConversionError if the model takes strings, or does what no forest does."""
    strings = [feature.name for feature in contract.features if feature.base_type == "string"]
    if strings:
        raise ConversionError(f"the compiled runtime takes only numbers, but {strings[0]} is a string")


def flatten_trees(estimator: Any) -> bytes:  # noqa: ANN401 - whatever was pickled
    """The trees of an estimator in the format of service/runtimes/compiled.py. Raises ConversionError."""
    trees = [tree.tree_ for tree in _estimators(estimator)]
    nodes, leaves, roots = [], [], []
    node_count = leaf_count = 0
    for tree in trees:
        is_leaf = tree.children_left == -1
        tree_nodes = np.zeros(tree.node_count, NODES)
        tree_nodes["threshold"] = tree.threshold
        tree_nodes["feature"] = np.where(is_leaf, -1, tree.feature)
        leaf = np.cumsum(is_leaf) - 1 + leaf_count
        tree_nodes["left"] = np.where(is_leaf, leaf, tree.children_left + node_count)
        tree_nodes["right"] = np.where(is_leaf, 0, tree.children_right + node_count)
        tree_nodes["missing_left"] = tree.missing_go_to_left
        # Since scikit-learn 1.3 a classifier's values are shares instead of counts.
        leaves.append(tree.value[is_leaf, 0, :])
        nodes.append(tree_nodes)
        roots.append(node_count)
        node_count += tree.node_count
        leaf_count += int(is_leaf.sum())
    assert NODES.itemsize == NODE.size  # noqa: S101 - one layout, written down twice
    header = HEADER.pack(MAGIC, trees[0].n_features, trees[0].value.shape[2], len(trees), node_count, leaf_count)
    parts = (np.concatenate(leaves).astype("<f8"), np.concatenate(nodes), np.array(roots, "<i4"))
    return header + b"".join(part.tobytes() for part in parts)


def compare(
    contract: Contract, pieces: Iterable[np.ndarray], trained: SklearnPredictor, converted: ForestPredictor
) -> Comparison:
    """Ask both models. Raises ConversionError, with the first row, if a difference is too large, or a label differs."""
    asked = wrong = 0
    largest = 0.0
    first = ""
    for rows in pieces:
        inputs = rows.tolist()
        expected, actual = trained.predict_numbers(rows), np.array(converted.evaluate(inputs))
        difference = np.abs(expected - actual).max(axis=1)
        labels = np.array(trained.predict_labels(rows)) if contract.labels else np.zeros(len(rows), int)
        other_label = labels != actual.argmax(axis=1)
        # Not `>`: a NaN would pass.
        differing = np.flatnonzero(other_label | ~(difference <= contract.tolerance))
        if len(differing) and not wrong:
            row = differing[0]
            shown = ["…" if each.private else value for each, value in zip(contract.features, inputs[row], strict=True)]
            first = (
                f"on {shown} it says {_format_answer(contract, actual[row])}, the trained one "
                f"{_format_answer(contract, expected[row])}"
            )
        asked, wrong = asked + len(rows), wrong + len(differing)
        largest = max(largest, float(difference.max()))
    if wrong:
        raise ConversionError(f"the compiled model differs on {wrong} of {asked} rows; {first}")
    return Comparison(asked, largest)


def _format_answer(contract: Contract, answer: np.ndarray) -> str:
    label = f"{contract.labels[int(answer.argmax())]} " if contract.labels else ""
    return f"{label}{answer.tolist()}"


def _estimators(estimator: Any) -> list[Any]:  # noqa: ANN401 - whatever was pickled
    if type(estimator) is Pipeline:
        steps = [step for _, step in estimator.steps if step not in (None, "passthrough")]
        if len(steps) > 1:
            raise ConversionError(_unknown(steps[0]))
        return _estimators(steps[0])
    # Not a subclass: its answers may differ.
    if type(estimator) not in FORESTS + TREES:
        raise ConversionError(_unknown(estimator))
    if estimator.n_outputs_ != 1:
        name = type(estimator).__name__
        raise ConversionError(f"the compiled runtime has no {name} of {estimator.n_outputs_} outputs")
    return list(estimator.estimators_) if type(estimator) in FORESTS else [estimator]


def _unknown(estimator: Any) -> str:  # noqa: ANN401
    known = ", ".join(kind.__name__ for kind in FORESTS + TREES)
    return f"the compiled runtime has no {type(estimator).__name__}; it has {known}"
