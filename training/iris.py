"""Trains the model that this repository ships, a forest on Iris: `python -m training.iris --out artifacts`."""

from __future__ import annotations

from pathlib import Path

from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

from export.contract import create_contract
from export.dataset import number_table
from service.contract import Contract
from training.cli import run_training


def train(directory: Path) -> Contract:
    """Train on Iris and write the model and its contract into `directory`; the same bytes every time."""
    iris = load_iris()
    seen, held_out, seen_targets, held_out_targets = train_test_split(
        iris.data, iris.target, test_size=0.25, random_state=42, stratify=iris.target
    )
    forest = RandomForestClassifier(n_estimators=50, random_state=42).fit(seen, seen_targets)
    return create_contract(
        forest,
        number_table(list(iris.feature_names), held_out.tolist()),
        held_out_targets,
        directory,
        name="iris-classifier",
        labels=[str(name) for name in iris.target_names],
        comparison_rows=iris.data,
    )


if __name__ == "__main__":
    run_training(train)
