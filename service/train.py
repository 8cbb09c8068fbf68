"""Trains the model that this repository ships, and writes its contract: `python -m service.train --out artifacts`."""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
from importlib import metadata
from pathlib import Path

import joblib
import msgspec
import numpy as np
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

from service.contract import Artefact, Contract, GoldenRow, Holdout
from service.model import CONTRACT

TRAINING_ROWS = "training.npy"
GOLDEN_ROWS_PER_CLASS = 4
LIBRARIES = ("joblib", "numpy", "scikit-learn", "scipy")
# Probabilities of a forest are means of tree votes: only the order of a sum may differ between processors.
TOLERANCE = 1e-6


def train(directory: Path) -> Contract:
    """Train on Iris and write model.pkl and model.json into `directory`; the same bytes every time.

    Beside them lie all rows that there are, as training.npy: a conversion is held against the model on each of them.
    """
    iris = load_iris()
    features, targets = iris.data, iris.target
    labels = [str(name) for name in iris.target_names]
    seen, held_out, seen_targets, held_out_targets = train_test_split(
        features, targets, test_size=0.25, random_state=42, stratify=targets
    )
    forest = RandomForestClassifier(n_estimators=50, random_state=42).fit(seen, seen_targets)
    buffer = io.BytesIO()
    joblib.dump(forest, buffer)
    content = buffer.getvalue()
    probabilities = forest.predict_proba(held_out)
    contract = Contract(
        name="iris-classifier",
        task="classification",
        artefact=Artefact(file="model.pkl", sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content)),
        features=list(iris.feature_names),
        labels=labels,
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        libraries={library: metadata.version(library) for library in LIBRARIES},
        holdout=Holdout(rows=len(held_out), accuracy=round(float(forest.score(held_out, held_out_targets)), 4)),
        golden=[
            GoldenRow(
                features=[float(value) for value in held_out[row]],
                label=labels[int(np.argmax(probabilities[row]))],
                probabilities=dict(zip(labels, map(float, probabilities[row]), strict=True)),
            )
            for row in telling_rows(probabilities)
        ],
        tolerance=TOLERANCE,
    )
    directory.mkdir(parents=True, exist_ok=True)
    np.save(directory / TRAINING_ROWS, features, allow_pickle=False)
    (directory / "model.pkl").write_bytes(content)
    # Last, so that a contract never stands beside a model that it does not describe.
    write(contract, directory)
    return contract


def write(contract: Contract, directory: Path) -> None:
    """Write model.json into `directory`, for people and machines to read."""
    (directory / CONTRACT).write_bytes(msgspec.json.format(msgspec.json.encode(contract), indent=2) + b"\n")


def telling_rows(probabilities: np.ndarray) -> list[int]:
    """The rows of each class that the model is least sure of: a wrong model gives itself away there first."""
    certainty = probabilities.max(axis=1)
    predicted = probabilities.argmax(axis=1)
    rows: list[int] = []
    for label in range(probabilities.shape[1]):
        of_label = np.flatnonzero(predicted == label)
        rows += [int(row) for row in of_label[np.argsort(certainty[of_label], kind="stable")][:GOLDEN_ROWS_PER_CLASS]]
    return rows


def main() -> None:
    """Train, and say what came out."""
    parser = argparse.ArgumentParser(prog="python -m service.train", description="Train the model and its contract.")
    parser.add_argument("--out", type=Path, default=Path("artifacts"), help="where both files go")
    directory = parser.parse_args().out
    contract = train(directory)
    print(
        f"trained    {directory / 'model.pkl'}: accuracy {contract.holdout.accuracy} on {contract.holdout.rows} rows, "
        f"{len(contract.golden)} golden rows, sha256 {contract.artefact.sha256[:12]}"
    )


if __name__ == "__main__":
    main()
