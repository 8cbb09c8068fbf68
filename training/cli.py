"""The command line that all trainings share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from export.scores import describe_scores
from service.contract import Contract


def run_training(train: Callable[[Path], Contract]) -> None:
    """Train into the folder that `--out` names, and print the scores."""
    parser = argparse.ArgumentParser(description="Train a model, and write it and its contract.")
    parser.add_argument("--out", type=Path, default=Path("artifacts"), help="the folder for the model and its contract")
    directory = parser.parse_args().out
    contract = train(directory)
    print(
        f"trained    {directory / contract.artifact.file}: {describe_scores(contract.holdout)}, "
        f"{len(contract.golden)} golden rows, sha256 {contract.artifact.sha256[:12]}"
    )
