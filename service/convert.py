"""Makes a lean model of a trained one and proves that both say the same: `python -m service.convert FROM TO`."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.pipeline import Pipeline
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor

from service.contract import Artefact, Contract, Equality
from service.forest import HEADER, MAGIC, NODE, Forest
from service.model import ModelRefused, forest, load, write
from service.pickled import Pickled

TRAINING_ROWS = "training.npy"
FORESTS = (RandomForestClassifier, ExtraTreesClassifier, RandomForestRegressor, ExtraTreesRegressor)
TREES = (DecisionTreeClassifier, ExtraTreeClassifier, DecisionTreeRegressor, ExtraTreeRegressor)
RANDOM_ROWS = 10_000
# Of each split three rows are asked: with a large forest, not of every one.
SPLITS_LIMIT = 10_000
# As forest.py has it.
NODES = np.dtype([("threshold", "<f8"), ("feature", "<i4"), ("left", "<i4"), ("right", "<i4"), ("unused", "<i4")])


class Unconvertible(Exception):
    """A model that the lean runtime cannot hold, or would not answer as it did; the message says why."""


class Rows(NamedTuple):
    """What both models are asked: rows of features as 64-bit floats, by where they come from."""

    training: np.ndarray
    edges: np.ndarray
    random: np.ndarray


def convert(source: Path, target: Path) -> tuple[Contract, Rows]:
    """Write model.forest and its contract into `target`, from the model and the contract in `source`.

    Returns the new contract, and the rows on which both were found equal.
    Raises ModelRefused where the model is not its contract's, and Unconvertible.
    """
    model = load(source)
    if not isinstance(model.predictor, Pickled):
        raise Unconvertible("the model is lean already")
    estimator, contract = model.predictor.estimator, model.contract
    require_numbers(contract)
    content = flattened(estimator)
    rows = asked(estimator, contract, source / TRAINING_ROWS)
    everything = np.concatenate(rows)
    worst = worst_difference(contract, everything, model.predictor, forest(contract, content))
    lean = msgspec.structs.replace(
        contract,
        runtime="lean",
        artefact=Artefact("model.forest", hashlib.sha256(content).hexdigest(), len(content)),
        equality=Equality(contract.artefact.sha256, len(everything), worst),
    )
    target.mkdir(parents=True, exist_ok=True)
    (target / lean.artefact.file).write_bytes(content)
    write(lean, target)
    return lean, rows


def require_numbers(contract: Contract) -> None:
    """Raise Unconvertible for a model that takes words."""
    if "word" in contract.kinds:
        raise Unconvertible(
            f"the lean runtime takes numbers alone, and {contract.features[contract.kinds.index('word')]} is a word"
        )


def flattened(estimator: Any) -> bytes:  # noqa: ANN401 - whatever was pickled
    """The trees of an estimator as forest.py reads them. Raises Unconvertible."""
    trees = [each.tree_ for each in _estimators(estimator)]
    nodes, leaves, roots = [], [], []
    nodes_before = leaves_before = 0
    for tree in trees:
        is_leaf = tree.children_left == -1
        of_tree = np.zeros(tree.node_count, NODES)
        of_tree["threshold"] = tree.threshold
        of_tree["feature"] = np.where(is_leaf, -1, tree.feature)
        leaf = np.cumsum(is_leaf) - 1 + leaves_before
        of_tree["left"] = np.where(is_leaf, leaf, tree.children_left + nodes_before)
        of_tree["right"] = np.where(is_leaf, 0, tree.children_right + nodes_before)
        # Since scikit-learn 1.3 those of a classifier are shares and no counts.
        leaves.append(tree.value[is_leaf, 0, :])
        nodes.append(of_tree)
        roots.append(nodes_before)
        nodes_before += tree.node_count
        leaves_before += int(is_leaf.sum())
    assert NODES.itemsize == NODE.size  # noqa: S101 - one layout, written down twice
    header = HEADER.pack(MAGIC, trees[0].n_features, trees[0].value.shape[2], len(trees), nodes_before, leaves_before)
    parts = (np.concatenate(leaves).astype("<f8"), np.concatenate(nodes), np.array(roots, "<i4"))
    return header + b"".join(part.tobytes() for part in parts)


def asked(estimator: Any, contract: Contract, training: Path) -> Rows:  # noqa: ANN401 - whatever was pickled
    """All rows that are known, rows near at most SPLITS_LIMIT splits, and random ones in the range of them all.

    For a split, three known rows get its feature's value just before the threshold, on it and just behind it. A row
    need not reach that split.
    """
    golden = np.array([row.features for row in contract.golden])
    known = np.load(training, allow_pickle=False) if training.exists() else golden
    trees = [each.tree_ for each in _estimators(estimator)]
    feature = np.concatenate([tree.feature for tree in trees])
    threshold = np.concatenate([tree.threshold for tree in trees])
    generator = np.random.default_rng(42)
    splits = np.flatnonzero(feature >= 0)
    splits = generator.permutation(splits)[:SPLITS_LIMIT]
    # Features are compared as 32-bit floats: the last one that goes left, the first one that goes right, and between.
    value = threshold[splits].astype(np.float32)
    sides = [np.nextafter(value, np.float32(-np.inf)), value, np.nextafter(value, np.float32(np.inf))]
    edges = np.tile(known[generator.integers(len(known), size=len(splits))], (3, 1))
    edges[np.arange(len(edges)), np.tile(feature[splits], 3)] = np.concatenate(sides)
    span = np.concatenate([known, golden, edges])
    random = generator.uniform(span.min(axis=0), span.max(axis=0), (RANDOM_ROWS, span.shape[1]))
    return Rows(known, edges, random)


def worst_difference(contract: Contract, rows: np.ndarray, model: Pickled, lean: Forest) -> float:
    """The largest difference between two answers; Unconvertible, with the row, where it is too large."""
    given = rows.tolist()
    expected, got = model.whole(rows), np.array(lean.answer(given))
    difference = np.abs(expected - got).max(axis=1)
    other_label = expected.argmax(axis=1) != got.argmax(axis=1)
    # Not `>`, which a NaN would pass.
    wrong = np.flatnonzero(other_label | ~(difference <= contract.tolerance))
    if len(wrong):
        row = wrong[0]
        raise Unconvertible(
            f"the lean model differs on {len(wrong)} of {len(rows)} rows; on {given[row]} it says "
            f"{_said(contract, got[row])}, the trained one {_said(contract, expected[row])}"
        )
    return float(difference.max())


def _said(contract: Contract, answer: np.ndarray) -> str:
    label = f"{contract.labels[int(answer.argmax())]} " if contract.labels else ""
    return f"{label}{answer.tolist()}"


def _estimators(estimator: Any) -> list[Any]:  # noqa: ANN401 - whatever was pickled
    if type(estimator) is Pipeline:
        steps = [step for _, step in estimator.steps if step not in (None, "passthrough")]
        if len(steps) > 1:
            raise Unconvertible(_unknown(steps[0]))
        return _estimators(steps[0])
    # Not a subclass: it may answer otherwise.
    if type(estimator) not in FORESTS + TREES:
        raise Unconvertible(_unknown(estimator))
    if estimator.n_outputs_ != 1:
        raise Unconvertible(f"the lean runtime has no {type(estimator).__name__} of {estimator.n_outputs_} outputs")
    return list(estimator.estimators_) if type(estimator) in FORESTS else [estimator]


def _unknown(estimator: Any) -> str:  # noqa: ANN401
    known = ", ".join(each.__name__ for each in FORESTS + TREES)
    return f"the lean runtime has no {type(estimator).__name__}; it has {known}"


def main() -> None:
    """Convert, and say on what both models were found equal."""
    parser = argparse.ArgumentParser(
        prog="python -m service.convert", description="Make a lean model of a trained one."
    )
    parser.add_argument("source", type=Path, help="the folder with model.pkl and model.json")
    parser.add_argument("target", type=Path, help="where model.forest and its model.json go")
    told = parser.parse_args()
    try:
        contract, rows = convert(told.source, told.target)
    except (ModelRefused, Unconvertible) as error:
        sys.exit(
            f'{error}\n→ say runtime = "sklearn" under [build] in pipeline.toml to serve the model as it is, or '
            '"frame" where it takes named columns or words'
        )
    worst = contract.equality.worst_difference if contract.equality else 0
    print(
        f"converted  {told.target / contract.artefact.file}: equal on {len(rows.training)} training, {len(rows.edges)} "
        f"edge and {len(rows.random)} random rows, largest difference {worst:g}, limit {contract.tolerance:g}"
    )


if __name__ == "__main__":
    main()
