"""Creates the contract of a trained model: `python -m export.contract model.pkl data.csv --out artifacts`.

The data are rows that the model has not seen, with their right answers. They score the model, and some of them become
the golden rows that every image must answer as the model does now.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import math
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np

from export.compiled import TRAINING_ROWS, check_features, flatten_trees
from export.dataset import BOOLEANS, Table, parse_number, read_csv, select_features
from export.errors import ContractError, ContractWarning, ConversionError
from export.estimator import find_categories, find_feature_names, find_task, load_estimator, needs_pandas
from export.scores import describe_scores, score_classifier, score_regressor
from export.stability import predict_rows, require_stable_answers
from service.contract import (
    Artifact,
    Contract,
    GoldenRow,
    Holdout,
    Label,
    Row,
    Task,
    label_text,
    write_contract,
)
from service.runtimes import Answers, Predictor
from service.runtimes.sklearn import SklearnPredictor

MODEL_FILE = "model.pkl"
GOLDEN_ROWS_PER_CLASS = 4
GOLDEN_VALUES = 12
MAX_GOLDEN_ROWS = 100
# How many values a message lists.
SHOWN = 5
# Of fewer rows a score says little, and a good model may look no better than guessing.
MIN_SCORED_ROWS = 20
LIBRARIES = ("joblib", "numpy", "scikit-learn", "scipy")
# Only the order of a sum differs between processors. The tolerance of values is a millionth of the largest one: an
# absolute one would let any model pass whose values are small.
TOLERANCE = 1e-6


class _Evaluation(NamedTuple):
    labels: list[Label]
    holdout: Holdout
    golden: list[GoldenRow]
    tolerance: float


def create_contract(
    estimator: Any,  # noqa: ANN401 - whatever was trained
    held_out: Table,
    targets: Sequence[Any] | np.ndarray,
    directory: Path,
    *,
    name: str,
    labels: Sequence[Label] = (),
    reference_rows: Sequence[Row] = (),
    pickle_bytes: bytes = b"",
) -> Contract:
    """Write model.pkl and model.json of a fitted `estimator` into `directory`; the same model gives the same bytes.

    `held_out` are rows that it has not seen, and `targets` their right answers. `labels` names its classes, in their
    order, if they do not name themselves. `reference_rows`, by default the held out ones, become training.npy: a
    conversion is compared on each of them. `pickle_bytes` is the file of a model that was saved before.
    Raises ContractError.
    """
    content = pickle_bytes or _pickle(estimator)
    task = find_task(estimator)
    features, rows, kinds = held_out
    if twice := [feature for feature, times in Counter(features).items() if times > 1]:
        raise ContractError(f"two features are called {twice[0]}; give each its own name.")
    _check_categories(estimator, held_out)
    runtime, predictor = _choose_runtime(estimator, content, task, held_out)
    answers = predict_rows(predictor, rows)
    evaluate = _evaluate_classifier if task == "classification" else _evaluate_regressor
    evaluation = evaluate(estimator, rows, answers, list(targets), list(labels))
    require_stable_answers(predictor, rows, answers, evaluation.tolerance)
    contract = Contract(
        name=name,
        task=task,
        artifact=Artifact(file=MODEL_FILE, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content)),
        features=list(features),
        labels=evaluation.labels,
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        libraries={
            library: metadata.version(library) for library in (*LIBRARIES, *(["pandas"] if runtime == "pandas" else []))
        },
        holdout=evaluation.holdout,
        golden=evaluation.golden,
        tolerance=evaluation.tolerance,
        kinds=kinds if "string" in kinds else [],
        runtime=runtime,
    )
    directory.mkdir(parents=True, exist_ok=True)
    if runtime == "sklearn":
        np.save(
            directory / TRAINING_ROWS,
            np.asarray(reference_rows if len(reference_rows) else rows, float),
            allow_pickle=False,
        )
    (directory / MODEL_FILE).write_bytes(content)
    # Last, so that a contract never lies beside a model that it does not describe.
    write_contract(contract, directory)
    return contract


def _check_categories(estimator: Any, table: Table) -> None:  # noqa: ANN401
    """Warn of values that an encoder of the model does not know, and refuse a column that has no other ones.

    An encoder may ignore what it does not know: the model then answers as if the column were not there.
    """
    categories = find_categories(estimator, table.features)
    for place, name in enumerate(table.features):
        if name not in categories:
            continue
        values, fitted = dict.fromkeys(row[place] for row in table.rows), set(categories[name])
        unknown = [value for value in values if value not in fitted]
        if not unknown:
            continue
        known = ", ".join(repr(each.item() if hasattr(each, "item") else each) for each in categories[name][:SHOWN])
        given = ", ".join(map(repr, unknown[:SHOWN]))
        if len(unknown) == len(values):
            raise ContractError(
                f"the model knows none of the values of {name}. The data have {given}; the model was trained with "
                f"{known}. Write them as they were when it was trained."
            )
        warnings.warn(
            f"{name} has values that the model was not trained with: {given}. It knows {known}, and may ignore others.",
            ContractWarning,
            stacklevel=3,
        )


def least_certain_rows(labels: np.ndarray, certainty: np.ndarray) -> list[int]:
    """At most MAX_GOLDEN_ROWS rows, of each label those with the least certain answers: a wrong model differs there.

    `labels` has the place of each row's label, and `certainty` its probability.
    """
    by_label = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    per_label = max(1, min(GOLDEN_ROWS_PER_CLASS, MAX_GOLDEN_ROWS // len(by_label)))
    chosen = [rows[np.argsort(certainty[rows], kind="stable")][:per_label] for rows in by_label]
    # Beyond that many labels only some have a row.
    every = -(-len(chosen) // MAX_GOLDEN_ROWS)
    return [int(row) for rows in chosen[::every] for row in rows]


def evenly_spaced_rows(values: np.ndarray) -> list[int]:
    """Rows from the smallest value to the largest one: a wrong scale or sign differs at one of the ends."""
    order = np.argsort(values, kind="stable")
    places = np.linspace(0, len(values) - 1, min(GOLDEN_VALUES, len(values)))
    return [int(order[round(place)]) for place in places]


def _pickle(estimator: Any) -> bytes:  # noqa: ANN401
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    return buffer.getvalue()


def _evaluate_classifier(
    estimator: Any,  # noqa: ANN401
    rows: Sequence[Row],
    answers: Answers,
    targets: Sequence[Any],
    labels: list[Label],
) -> _Evaluation:
    labels = labels or list(map(_plain_label, estimator.classes_))
    texts = [label_text(name) for name in labels]
    if "" in texts:
        raise ContractError("one of the model's labels is empty; give it a name.")
    numbers = np.array(answers.numbers)
    places = numbers.argmax(axis=1) if answers.labels is None else np.array(answers.labels)
    certainty = numbers[np.arange(len(numbers)), places] if numbers.size else np.zeros(len(places))
    right = _class_indices(estimator.classes_, targets)
    _require_better_than_guessing(places, right)
    golden = [
        GoldenRow(
            features=list(rows[row]),
            label=labels[places[row]],
            probabilities=dict(zip(texts, numbers[row].tolist(), strict=True)) if numbers.size else {},
        )
        for row in least_certain_rows(places, certainty)
    ]
    return _Evaluation(labels, score_classifier(texts, right, places, numbers), golden, TOLERANCE)


def _plain_label(label: Any) -> Label:  # noqa: ANN401
    plain: Label = label.item() if isinstance(label, np.generic) else label
    if isinstance(plain, bool | str | int) or (isinstance(plain, float) and math.isfinite(plain)):
        return plain
    raise ContractError(f"{label!r} is no label: JSON has strings, numbers and booleans.")


def _require_better_than_guessing(places: np.ndarray, right: np.ndarray) -> None:
    """Raise ContractError if always saying the most frequent label would be as good, whichever way it is counted.

    A model that raises rare alarms may have a lower accuracy than that, but it finds more of them.
    """
    shares = np.bincount(right) / len(right)
    known = shares > 0
    if known.sum() < 2 or len(right) < MIN_SCORED_ROWS:
        return
    accuracy = float((places == right).mean())
    # A predicted label that no row has is no error of the score.
    balanced = float(np.mean([(places[right == label] == label).mean() for label in np.flatnonzero(known)]))
    if accuracy <= shares.max() and balanced <= 1 / known.sum():
        raise ContractError(
            f"the model is right on {accuracy:.0%} of the {len(right)} rows; always the same label would be right on "
            f"{shares.max():.0%}. Most often the target is another column, or the columns are in another order."
        )


def _evaluate_regressor(
    _: Any,  # noqa: ANN401
    rows: Sequence[Row],
    answers: Answers,
    targets: Sequence[Any],
    labels: list[Label],  # noqa: ARG001 - a regression has none
) -> _Evaluation:
    values, expected = np.array(answers.numbers)[:, 0], _values(targets)
    if len(expected) < 2:
        raise ContractError("the data have one row, but the score of a regression needs at least two.")
    holdout = score_regressor(np.array(expected), values)
    r2 = holdout.scores.get("r2", 0)
    if r2 < 0 and len(expected) >= MIN_SCORED_ROWS:
        raise ContractError(
            f"the model is worse than always saying the mean of the {len(expected)} rows (r2 {r2:.4g}). Most often the "
            "target is another column, or the columns are in another order."
        )
    golden = [GoldenRow(features=list(rows[row]), value=float(values[row])) for row in evenly_spaced_rows(values)]
    return _Evaluation([], holdout, golden, float(f"{TOLERANCE * float(np.abs(values).max()):.0e}"))


def _choose_runtime(
    estimator: Any,  # noqa: ANN401
    content: bytes,
    task: Task,
    table: Table,
) -> tuple[str, Predictor]:
    """The smaller runtime that answers these rows; an estimator of named columns refuses them as plain numbers."""
    has_probabilities = task == "classification" and hasattr(estimator, "predict_proba")
    if "string" not in table.kinds and not needs_pandas(estimator):
        plain = SklearnPredictor(content, task, has_probabilities=has_probabilities)
        with suppress(Exception):
            plain.predict(table.rows[:1])
            return "sklearn", plain
    try:
        # Imported here, because a training of plain numbers does not need it.
        from service.runtimes.pandas import DataFramePredictor
    except ModuleNotFoundError as error:
        raise ContractError(
            "the model takes named columns or strings, which need pandas; install requirements/image-pandas.txt."
        ) from error
    kinds = table.kinds or ["number"] * len(table.features)
    return "pandas", DataFramePredictor(content, task, table.features, kinds, has_probabilities=has_probabilities)


def _class_indices(classes: Any, targets: Sequence[Any]) -> np.ndarray:  # noqa: ANN401
    """The index of each right answer's class. Answers from a file are strings, whatever the classes are."""
    places = {str(name): place for place, name in enumerate(classes)}
    if np.asarray(classes).dtype == bool:
        words = {word: word.capitalize() for word in BOOLEANS} | {"1": "True", "0": "False"}
        places |= {word: places[name] for word, name in words.items() if name in places}
    if np.issubdtype(np.asarray(classes).dtype, np.number):
        by_number = {float(name): place for place, name in enumerate(classes)}
        numbers = {str(target): parse_number(str(target)) for target in targets}
        places |= {name: by_number[number] for name, number in numbers.items() if number in by_number}
    unknown = next((target for target in targets if str(target) not in places), None)
    if unknown is not None:
        raise ContractError(
            f"the data have the answer {unknown}, but the model has only {', '.join(map(str, classes))}."
        )
    return np.array([places[str(target)] for target in targets])


def _values(targets: Sequence[Any]) -> list[float]:
    values = [parse_number(str(target)) for target in targets]
    if None in values:
        raise ContractError(f"the data's target is {targets[values.index(None)]}, but the model predicts numbers.")
    return [value for value in values if value is not None]


def summary(contract: Contract, conversion_error: str, warned: Sequence[str] = ()) -> str:
    """The contract in a few lines, and what `warned` says.

    `conversion_error` says why the model cannot be compiled; it is empty if it can.
    """
    kinds = Counter(contract.feature_kinds)
    takes = " and ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in kinds.items())
    gives = f"{len(contract.labels)} labels" if contract.labels else "a value"
    lines = [
        f"model      {contract.task}: {takes} → {gives}; {describe_scores(contract.holdout)}",
        f"contract   {len(contract.golden)} golden rows, tolerance {contract.tolerance:g}, "
        f"sha256 {contract.artifact.sha256[:12]}",
    ]
    lines += [f"warning    {sentence}" for sentence in warned]
    if conversion_error:
        lines += [f"note       {conversion_error}", f'next       set runtime = "{contract.runtime}" under [build]']
    else:
        lines += ['next       runtime = "compiled" serves it, and "sklearn" as well']
    return "".join(f"{line}\n" for line in lines)


def main() -> None:
    """Create the contract, and print its summary."""
    parser = argparse.ArgumentParser(prog="python -m export.contract", description="Create a trained model's contract.")
    parser.add_argument("model", type=Path, help="a fitted estimator or pipeline, saved with joblib")
    parser.add_argument("data", type=Path, help="a CSV file of rows that it has not seen, with their right answers")
    parser.add_argument("--out", type=Path, default=Path("artifacts"), help="the folder for model.pkl and model.json")
    parser.add_argument("--name", default="model", help="the model's name")
    parser.add_argument("--target", default="", help="the column of the right answers; by default the last one")
    parser.add_argument("--string-columns", default="", help="columns that only look like numbers: A,B")
    args = parser.parse_args()
    try:
        content = args.model.read_bytes()
        estimator = load_estimator(content)
        string_columns = [name for name in args.string_columns.split(",") if name]
        table, targets = read_csv(args.data, args.target, string_columns, partial(find_feature_names, estimator))
        table = select_features(estimator, table)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always", ContractWarning)
            contract = create_contract(estimator, table, targets, args.out, name=args.name, pickle_bytes=content)
    except OSError as error:
        sys.exit(f"{error.filename} cannot be read: {error.strerror}")
    except ContractError as error:
        sys.exit(str(error))
    conversion_error = ""
    try:
        check_features(contract)
        flatten_trees(estimator)
    except ConversionError as error:
        conversion_error = str(error)
    warned = [str(each.message) for each in seen if issubclass(each.category, ContractWarning)]
    print(summary(contract, conversion_error, warned), end="")


if __name__ == "__main__":
    main()
