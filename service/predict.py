"""Predicts one row on the command line, a random one unless told: `python -m service.predict [--features ...]`."""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
from collections.abc import Sequence
from contextlib import suppress

from service.__main__ import ARTIFACTS
from service.contract import Contract, Kind, Row
from service.model import Estimate, ModelRefused, NoAnswer, load
from service.rows import Reader, Refused
from service.settings import SettingsRefused, from_environment


def random_row(contract: Contract, seed: int | None) -> Row:
    """A row drawn from between the smallest and the largest golden value of each feature; of words, from the golden."""
    generator = random.Random(seed)  # noqa: S311 - an example, no secret
    columns = zip(*(row.features for row in contract.golden), strict=True)
    return [_drawn(column, generator) for column in columns]


def _drawn(column: Row, generator: random.Random) -> float | str:
    numbers = [value for value in column if not isinstance(value, str)]
    if not numbers:
        return generator.choice(column)
    smallest, largest = min(numbers), max(numbers)
    drawn = generator.uniform(smallest, largest)
    # As short as it can be read: tenths, and finer ones where all values lie closer together.
    digits = 1 - math.floor(math.log10(largest - smallest)) if smallest < largest else 1
    return min(max(round(drawn, max(digits, 1)), smallest), largest)


def _read(given: str, kind: Sequence[Kind]) -> float | str:
    if "word" in kind:
        return given
    # What is no number is refused as it is in a request, and so is one value too many.
    with suppress(ValueError):
        return float(given)
    return given


def main() -> None:
    """Predict, and print the row beside its answer."""
    parser = argparse.ArgumentParser(prog="python -m service.predict", description="Predict one row.")
    parser.add_argument("--features", nargs="+", help="the row; a random one if left out")
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
    contract = model.contract
    kinds = contract.feature_kinds
    row = [_read(value, kinds[place : place + 1]) for place, value in enumerate(asked.features or [])]
    try:
        rows = Reader(contract.features, kinds, 1).checked({"features": row or random_row(contract, asked.seed)})
        prediction = model.predict(rows)[0]
    except (Refused, NoAnswer) as refused:
        parser.error(str(refused))
    if isinstance(prediction, Estimate):
        said = f"{prediction.value:g}"
    else:
        said = f"{prediction.label} ({prediction.probabilities[prediction.label]:.0%})"
    print(f"{', '.join(map(str, rows[0]))} → {said}")


if __name__ == "__main__":
    main()
