"""Predicts one row on the command line, by default a random one: `python -m service.predict [--features ...]`."""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
from contextlib import suppress

from service.__main__ import ARTIFACTS
from service.contract import Contract, Feature, ModelLoadError, Row, Value, label_text
from service.http.parsing import RequestError, RequestParser
from service.model import (
    ClassPrediction,
    LabelsPrediction,
    OutlierPrediction,
    Prediction,
    RegressionPrediction,
    ValuesPrediction,
    load_model,
)
from service.runtimes import PredictionError
from service.settings import SettingsError, read_settings


def random_row(contract: Contract, seed: int | None) -> Row:
    """A row between the smallest and the largest golden value of each number; other values are golden ones."""
    generator = random.Random(seed)  # noqa: S311 - an example, no secret
    columns = zip(contract.features, zip(*(row.features for row in contract.golden), strict=True), strict=True)
    return [_random_value(feature, column, generator) for feature, column in columns]


def _random_value(feature: Feature, column: Row, generator: random.Random) -> Value:
    if feature.type not in ("number", "integer"):
        return generator.choice(column)
    numbers = [value for value in column if isinstance(value, int | float)]
    if not numbers:
        return None
    smallest, largest = min(numbers), max(numbers)
    if feature.type == "integer":
        return generator.randint(int(smallest), int(largest))
    value = generator.uniform(smallest, largest)
    # One decimal place is easy to read; more of them only if all values are closer together than that.
    digits = 1 - math.floor(math.log10(largest - smallest)) if smallest < largest else 1
    return min(max(round(value, max(digits, 1)), smallest), largest)


def _parse_value(text: str, feature: Feature) -> Value:
    if feature.missing and text == "null":
        return None
    if feature.base_type == "string":
        return text
    # The parser refuses what is of another type, as it does in a request.
    if feature.base_type == "boolean":
        return {"true": True, "false": False}.get(text, text)
    with suppress(ValueError):
        return float(text)
    return text


def _format_value(value: Value) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def describe_answer(prediction: Prediction) -> str:
    """A prediction in a few words."""
    match prediction:
        case RegressionPrediction(value):
            return f"{value:g}"
        case ValuesPrediction(values):
            return ", ".join(f"{name} {value:g}" for name, value in values.items())
        case LabelsPrediction(labels):
            return ", ".join(map(label_text, labels)) or "no label"
        case OutlierPrediction(label, score):
            return f"{label_text(label)} (score {score:g})"
        case ClassPrediction(label, probabilities):
            return f"{label_text(label)} ({probabilities[label_text(label)]:.0%})"
        case _:
            return label_text(prediction.label)


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
    given = args.features or []
    # One value too many has no feature; the parser refuses such a row.
    features = [*contract.features, *[Feature("", "string")] * len(given)]
    row = [_parse_value(value, feature) for value, feature in zip(given, features, strict=False)]
    try:
        request = {"features": row or random_row(contract, args.seed)}
        rows = RequestParser(contract.features, 1).validate(request)
        prediction = model.predict(rows)[0]
    except (RequestError, PredictionError) as error:
        parser.error(str(error))
    print(f"{', '.join(map(_format_value, rows[0]))} → {describe_answer(prediction)}")


if __name__ == "__main__":
    main()
