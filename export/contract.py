"""Creates the contract of a trained model: `python -m export.contract model.pkl data.csv --out artifacts`.

The data are rows that the model has not seen, with their right answers. They score the model, and some of them become
the golden rows that every image must answer as the model does now.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
from sklearn.base import is_classifier, is_regressor
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.metrics import mean_absolute_error, r2_score

from export.compiled import TRAINING_ROWS, check_features, flatten_trees
from export.dataset import Table, parse_number, read_csv, select_features
from export.errors import ContractError, ConversionError
from service.contract import Artifact, Contract, GoldenRow, Holdout, Row, Task, write_contract
from service.runtimes import Predictor
from service.runtimes.sklearn import SklearnPredictor

MODEL_FILE = "model.pkl"
GOLDEN_ROWS_PER_CLASS = 4
GOLDEN_VALUES = 12
LIBRARIES = ("joblib", "numpy", "scikit-learn", "scipy")
# Only the order of a sum differs between processors. The tolerance of values is a millionth of the largest one.
TOLERANCE = 1e-6


class _Evaluation(NamedTuple):
    labels: list[str]
    scores: dict[str, float]
    golden: list[GoldenRow]
    tolerance: float


def create_contract(
    estimator: Any,  # noqa: ANN401 - whatever was trained
    held_out: Table,
    targets: Sequence[Any],
    directory: Path,
    *,
    name: str,
    labels: Sequence[str] = (),
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
    task = _task(estimator)
    features, rows, kinds = held_out
    if twice := [feature for feature, times in Counter(features).items() if times > 1]:
        raise ContractError(f"two features are called {twice[0]}; give each its own name.")
    runtime, predictor = _runtime(content, task, held_out)
    answers = np.array(_predict(predictor, rows))
    evaluate = _evaluate_classifier if task == "classification" else _evaluate_regressor
    evaluation = evaluate(estimator, rows, answers, targets, list(labels))
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
        holdout=Holdout(rows=len(rows), scores=evaluation.scores),
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


def least_certain_rows(probabilities: np.ndarray) -> list[int]:
    """The rows of each class that the model is least sure of: a wrong model differs there first."""
    certainty = probabilities.max(axis=1)
    predicted = probabilities.argmax(axis=1)
    rows: list[int] = []
    for label in range(probabilities.shape[1]):
        label_rows = np.flatnonzero(predicted == label)
        rows += [
            int(row) for row in label_rows[np.argsort(certainty[label_rows], kind="stable")][:GOLDEN_ROWS_PER_CLASS]
        ]
    return rows


def evenly_spaced_rows(values: np.ndarray) -> list[int]:
    """Rows from the smallest value to the largest one: a wrong scale or sign differs at one of the ends."""
    order = np.argsort(values, kind="stable")
    places = np.linspace(0, len(values) - 1, min(GOLDEN_VALUES, len(values)))
    return [int(order[round(place)]) for place in places]


def _pickle(estimator: Any) -> bytes:  # noqa: ANN401
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    return buffer.getvalue()


def _load(content: bytes) -> Any:  # noqa: ANN401
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", InconsistentVersionWarning)
            return joblib.load(io.BytesIO(content))
    except InconsistentVersionWarning as error:
        raise ContractError(
            f"the model was saved with scikit-learn {error.original_sklearn_version}, but this is "
            f"{error.current_sklearn_version}: a pickle only loads with the version that wrote it. Train it again with "
            "this one, or lock that one in requirements/."
        ) from error
    # A pickle runs code, and that may raise anything.
    except Exception as error:
        why = "".join(traceback.format_exception_only(error)).partition("\n")[0]
        raise ContractError(
            f"the model cannot be loaded ({why}); save it with joblib.dump, and use only packages of "
            "requirements/image-pandas.txt."
        ) from error


def _task(estimator: Any) -> Task:  # noqa: ANN401
    name = type(estimator).__name__
    # Both raise for an object that is not an estimator.
    with suppress(AttributeError, TypeError):
        if is_regressor(estimator):
            return "regression"
        if is_classifier(estimator):
            _require_probabilities(estimator, name)
            return "classification"
    raise ContractError(f"{name} is neither a classifier nor a regressor of scikit-learn.")


def _require_probabilities(estimator: Any, name: str) -> None:  # noqa: ANN401
    if not hasattr(estimator, "predict_proba"):
        raise ContractError(f"{name} has no predict_proba; CalibratedClassifierCV gives it one.")
    if not hasattr(estimator, "classes_"):
        raise ContractError(f"{name} is not fitted; fit it before it is saved.")
    if isinstance(estimator.classes_, list):
        raise ContractError(f"{name} predicts {len(estimator.classes_)} things; a model predicts one.")


def _evaluate_classifier(
    estimator: Any,  # noqa: ANN401
    rows: Sequence[Row],
    answers: np.ndarray,
    targets: Sequence[Any],
    labels: list[str],
) -> _Evaluation:
    labels = labels or [str(name) for name in estimator.classes_]
    if "" in labels:
        raise ContractError("one of the model's labels is empty; give it a name.")
    right = _class_indices(estimator.classes_, targets)
    golden = [
        GoldenRow(
            features=list(rows[row]),
            label=labels[int(answers[row].argmax())],
            probabilities=dict(zip(labels, answers[row].tolist(), strict=True)),
        )
        for row in least_certain_rows(answers)
    ]
    accuracy = float((answers.argmax(axis=1) == right).mean())
    return _Evaluation(labels, {"accuracy": round(accuracy, 4)}, golden, TOLERANCE)


def _evaluate_regressor(
    _: Any,  # noqa: ANN401
    rows: Sequence[Row],
    answers: np.ndarray,
    targets: Sequence[Any],
    labels: list[str],  # noqa: ARG001 - a regression has none
) -> _Evaluation:
    values, expected = answers[:, 0], _values(targets)
    if len(expected) < 2:
        raise ContractError("the data have one row, but the score of a regression needs at least two.")
    scores = {
        "r2": round(float(r2_score(expected, values)), 4),
        "mean absolute error": float(f"{mean_absolute_error(expected, values):.4g}"),
    }
    golden = [GoldenRow(features=list(rows[row]), value=float(values[row])) for row in evenly_spaced_rows(values)]
    return _Evaluation([], scores, golden, float(f"{TOLERANCE * max(1.0, float(np.abs(values).max())):.0e}"))


def _runtime(content: bytes, task: Task, table: Table) -> tuple[str, Predictor]:
    """The smaller runtime that answers these rows; an estimator of named columns refuses them as plain numbers."""
    if "string" not in table.kinds:
        plain = SklearnPredictor(content, task)
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
    return "pandas", DataFramePredictor(content, task, table.features, kinds)


def _predict(predictor: Predictor, rows: Sequence[Row]) -> list[list[float]]:
    try:
        answers = predictor.predict(rows)
    # A model is anybody's code, and may raise anything, in several lines.
    except Exception as error:
        why = str(error.__cause__ or error).partition("\n")[0].rstrip(".")
        raise ContractError(f"the model does not answer these data: {why}.") from error
    if len(answers) != len(rows):
        raise ContractError(f"the model gives {len(answers)} numbers to {len(rows)} rows; a model predicts one thing.")
    return answers


def _class_indices(classes: Any, targets: Sequence[Any]) -> np.ndarray:  # noqa: ANN401
    """The index of each right answer's class. Answers from a file are strings, whatever the classes are."""
    places = {str(name): place for place, name in enumerate(classes)}
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


def summary(contract: Contract, conversion_error: str) -> str:
    """The contract in a few lines; `conversion_error` says why the model cannot be compiled, empty if it can."""
    kinds = Counter(contract.feature_kinds)
    takes = " and ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in kinds.items())
    gives = f"{len(contract.labels)} labels" if contract.labels else "a value"
    scores = ", ".join(f"{name} {score:g}" for name, score in contract.holdout.scores.items())
    lines = [
        f"model      {contract.task}: {takes} → {gives}; {scores} on {contract.holdout.rows} rows",
        f"contract   {len(contract.golden)} golden rows, tolerance {contract.tolerance:g}, "
        f"sha256 {contract.artifact.sha256[:12]}",
    ]
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
        estimator = _load(content)
        string_columns = [name for name in args.string_columns.split(",") if name]
        table, targets = read_csv(args.data, args.target, string_columns)
        table = select_features(estimator, table)
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
    print(summary(contract, conversion_error), end="")


if __name__ == "__main__":
    main()
