"""An example: a regression, how far diabetes has progressed after a year. It can be compiled as well."""

from __future__ import annotations

from pathlib import Path

from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import train_test_split

from export.contract import create_contract
from export.dataset import number_table
from service.contract import Contract
from training.cli import run_training


def train(directory: Path) -> Contract:
    """Train on the diabetes data and write the model and its contract into `directory`; the same bytes every time."""
    data = load_diabetes()
    seen, held_out, seen_targets, held_out_targets = train_test_split(
        data.data, data.target, test_size=0.25, random_state=42
    )
    forest = RandomForestRegressor(n_estimators=100, min_samples_leaf=3, random_state=42).fit(seen, seen_targets)
    return create_contract(
        forest,
        number_table(list(data.feature_names), held_out.tolist()),
        held_out_targets,
        directory,
        name="diabetes-progression",
        comparison_rows=data.data,
    )


if __name__ == "__main__":
    run_training(train)
