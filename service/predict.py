"""Predicts one row on the command line, a random one unless told: `python -m service.predict [--features ...]`."""

from __future__ import annotations

import argparse
import os
import random
import sys

from service.__main__ import ARTIFACTS
from service.contract import Contract
from service.model import ModelRefused, load
from service.rows import Reader, Refused
from service.settings import SettingsRefused, from_environment


def random_row(contract: Contract, seed: int | None) -> list[float]:
    """A row drawn from between the smallest and the largest golden value of each feature."""
    generator = random.Random(seed)  # noqa: S311 - an example, no secret
    columns = zip(*(row.features for row in contract.golden), strict=True)
    return [round(generator.uniform(min(column), max(column)), 1) for column in columns]


def main() -> None:
    """Predict, and print the row beside its answer."""
    parser = argparse.ArgumentParser(prog="python -m service.predict", description="Predict one row.")
    parser.add_argument("--features", type=float, nargs="+", help="the row; a random one if left out")
    parser.add_argument("--seed", type=int, help="draw the same random row every time")
    asked = parser.parse_args()
    try:
        settings = from_environment(os.environ)
        if settings.model_uri:
            from service import outside
            from service.arriving import Progress

            model = outside.load(settings, ARTIFACTS, Progress())
        else:
            model = load(ARTIFACTS)
    except (ModelRefused, SettingsRefused) as refused:
        sys.exit(str(refused))
    row = asked.features or random_row(model.contract, asked.seed)
    try:
        rows = Reader(model.contract.features, 1).checked({"features": row})
    except Refused as refused:
        parser.error(str(refused))
    prediction = model.predict(rows)[0]
    sure = f"{prediction.probabilities[prediction.label]:.0%}"
    print(f"{', '.join(map(str, row))} → {prediction.label} ({sure})")


if __name__ == "__main__":
    main()
