"""Predicts one row on the command line, by default a random one: `python -m service.predict [--features ...]`."""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
from contextlib import suppress

from service.__main__ import ARTIFACTS
from service.contract import Contract, ModelLoadError, Row, label_text
from service.http.parsing import RequestError, RequestParser
from service.model import ClassPrediction, RegressionPrediction, load_model
from service.runtimes import PredictionError
from service.settings import SettingsError, read_settings


def random_row(contract: Contract, seed: int | None) -> Row:
    """A row between the smallest and the largest golden value of each feature; strings are golden ones."""
    generator = random.Random(seed)  # noqa: S311 - an example, no secret
    columns = zip(*(row.features for row in contract.golden), strict=True)
    return [_random_value(column, generator) for column in columns]


def _random_value(column: Row, generator: random.Random) -> float | str:
    numbers = [value for value in column if not isinstance(value, str)]
    if not numbers:
        return generator.choice(column)
    smallest, largest = min(numbers), max(numbers)
    value = generator.uniform(smallest, largest)
    # One decimal place is easy to read; more of them only if all values are closer together than that.
    digits = 1 - math.floor(math.log10(largest - smallest)) if smallest < largest else 1
    return min(max(round(value, max(digits, 1)), smallest), largest)


def _parse_value(text: str, *, is_string: bool) -> float | str:
    if is_string:
        return text
    # The parser refuses what is not a number, as it does in a request.
    with suppress(ValueError):
        return float(text)
    return text


def main() -> None:
    """Predict, and print the row beside its answer."""
    parser = argparse.ArgumentParser(prog="python -m service.predict", description="Predict one row.")
    parser.add_argument("--features", nargs="+", help="the row; by default a random one")
    parser.add_argument("--seed", type=int, help="draw the same random row every time")
    args = parser.parse_args()
    try:
        settings = read_settings(os.environ)
        if settings.model_uri:
            from service.storage.progress import LoadProgress
            from service.storage.remote_model import load_remote_model

            model = load_remote_model(settings, ARTIFACTS, LoadProgress())
        else:
            model = load_model(ARTIFACTS)
    except (ModelLoadError, SettingsError) as error:
        sys.exit(str(error))
    contract = model.contract
    kinds = contract.feature_kinds
    row = [
        # One value too many has no kind; the parser refuses such a row.
        _parse_value(value, is_string=kinds[place : place + 1] == ["string"])
        for place, value in enumerate(args.features or [])
    ]
    try:
        request = {"features": row or random_row(contract, args.seed)}
        rows = RequestParser(contract.features, kinds, 1).validate(request)
        prediction = model.predict(rows)[0]
    except (RequestError, PredictionError) as error:
        parser.error(str(error))
    if isinstance(prediction, RegressionPrediction):
        answer = f"{prediction.value:g}"
    else:
        answer = label_text(prediction.label)
        if isinstance(prediction, ClassPrediction):
            answer = f"{answer} ({prediction.probabilities[answer]:.0%})"
    print(f"{', '.join(map(str, rows[0]))} → {answer}")


if __name__ == "__main__":
    main()
