"""The command line that all trainings share: where to, and what came out."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from service.contract import Contract


def command(train: Callable[[Path], Contract]) -> None:
    """Train into the folder that `--out` names, and say what came out."""
    parser = argparse.ArgumentParser(description="Train a model, and write it and its contract.")
    parser.add_argument("--out", type=Path, default=Path("artifacts"), help="where both files go")
    directory = parser.parse_args().out
    contract = train(directory)
    scores = ", ".join(f"{name} {score:g}" for name, score in contract.holdout.scores.items())
    print(
        f"trained    {directory / contract.artefact.file}: {scores} on {contract.holdout.rows} rows, "
        f"{len(contract.golden)} golden rows, sha256 {contract.artefact.sha256[:12]}"
    )
