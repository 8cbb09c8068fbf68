"""Writes the contract of a trained model: `python -m service.describe model.pkl data.csv --out artifacts`.

The data are rows with their right answers that the model has not seen: they are what it is scored on, and some of them
become the golden rows that every image has to answer as the model does now.
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

from service.contract import Artefact, Contract, GoldenRow, Holdout, Row, Runtime, Task
from service.convert import TRAINING_ROWS, Unconvertible, flattened, require_numbers
from service.data import Table, Undescribable, in_order_of, number_in, read
from service.model import Predictor, write
from service.pickled import Framed, Pickled

MODEL = "model.pkl"
GOLDEN_ROWS_PER_CLASS = 4
GOLDEN_VALUES = 12
LIBRARIES = ("joblib", "numpy", "scikit-learn", "scipy")
# Only the order of a sum may differ between processors; of values, which have a unit, a millionth of the largest.
TOLERANCE = 1e-6


class _Judged(NamedTuple):
    labels: list[str]
    scores: dict[str, float]
    golden: list[GoldenRow]
    tolerance: float


def describe(
    estimator: Any,  # noqa: ANN401 - whatever was trained
    held_out: Table,
    targets: Sequence[Any],
    directory: Path,
    *,
    name: str,
    labels: Sequence[str] = (),
    known: Sequence[Row] = (),
    saved: bytes = b"",
) -> Contract:
    """Write model.pkl and model.json into `directory`, of a fitted `estimator`; the same bytes of the same model.

    `held_out` are rows that it has not seen, `targets` their right answers, as it was trained with them; `labels` are
    the names of its classes in their order, where they are not their own. Beside both lie the `known` rows, the held
    out ones unless told, as training.npy: a conversion is held against the model on each of them. A model that was
    `saved` before stays as it is.
    Raises Undescribable.
    """
    content = saved or _pickled(estimator)
    task = _task(estimator)
    features, rows, kinds = held_out
    if twice := [feature for feature, times in Counter(features).items() if times > 1]:
        raise Undescribable(f"two features are called {twice[0]}; give each its own name.")
    runtime, predictor = _runtime(content, task, held_out)
    answers = np.array(_answered(predictor, rows))
    judge = _classified if task == "classification" else _estimated
    judged = judge(estimator, rows, answers, targets, list(labels))
    contract = Contract(
        name=name,
        task=task,
        artefact=Artefact(file=MODEL, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content)),
        features=list(features),
        labels=judged.labels,
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        libraries={
            library: metadata.version(library) for library in (*LIBRARIES, *(["pandas"] if runtime == "frame" else []))
        },
        holdout=Holdout(rows=len(rows), scores=judged.scores),
        golden=judged.golden,
        tolerance=judged.tolerance,
        kinds=kinds if "word" in kinds else [],
        runtime=runtime,
    )
    directory.mkdir(parents=True, exist_ok=True)
    if runtime == "sklearn":
        np.save(directory / TRAINING_ROWS, np.asarray(known if len(known) else rows, float), allow_pickle=False)
    (directory / MODEL).write_bytes(content)
    # Last, so that a contract never stands beside a model that it does not describe.
    write(contract, directory)
    return contract


def telling_rows(probabilities: np.ndarray) -> list[int]:
    """The rows of each class that the model is least sure of: a wrong model gives itself away there first."""
    certainty = probabilities.max(axis=1)
    predicted = probabilities.argmax(axis=1)
    rows: list[int] = []
    for label in range(probabilities.shape[1]):
        of_label = np.flatnonzero(predicted == label)
        rows += [int(row) for row in of_label[np.argsort(certainty[of_label], kind="stable")][:GOLDEN_ROWS_PER_CLASS]]
    return rows


def spread_rows(values: np.ndarray) -> list[int]:
    """Rows from the smallest value to the largest one: a wrong scale or sign shows at one of its ends."""
    order = np.argsort(values, kind="stable")
    places = np.linspace(0, len(values) - 1, min(GOLDEN_VALUES, len(values)))
    return [int(order[round(place)]) for place in places]


def _pickled(estimator: Any) -> bytes:  # noqa: ANN401
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    return buffer.getvalue()


def _loaded(content: bytes) -> Any:  # noqa: ANN401
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", InconsistentVersionWarning)
            return joblib.load(io.BytesIO(content))
    except InconsistentVersionWarning as error:
        raise Undescribable(
            f"the model was saved with scikit-learn {error.original_sklearn_version}, and here is "
            f"{error.current_sklearn_version}: a pickle is only promised to load with the version that wrote it. "
            "Train it again with this one, or lock that one."
        ) from error
    # A pickle runs code, and that may raise anything.
    except Exception as error:
        why = "".join(traceback.format_exception_only(error)).partition("\n")[0]
        raise Undescribable(
            f"the model cannot be loaded ({why}); save it with joblib.dump, of what the "
            "libraries of service/requirements-frame.txt have."
        ) from error


def _task(estimator: Any) -> Task:  # noqa: ANN401
    name = type(estimator).__name__
    # What is no estimator at all has none of the tags that both look at, and raises.
    with suppress(AttributeError, TypeError):
        if is_regressor(estimator):
            return "regression"
        if is_classifier(estimator):
            _require_probabilities(estimator, name)
            return "classification"
    raise Undescribable(f"{name} is neither a classifier nor a regressor of scikit-learn's.")


def _require_probabilities(estimator: Any, name: str) -> None:  # noqa: ANN401
    if not hasattr(estimator, "predict_proba"):
        raise Undescribable(f"{name} has no predict_proba; CalibratedClassifierCV gives it one.")
    if not hasattr(estimator, "classes_"):
        raise Undescribable(f"{name} is not fitted; fit it before it is saved.")
    if isinstance(estimator.classes_, list):
        raise Undescribable(f"{name} predicts {len(estimator.classes_)} things; a model predicts one.")


def _classified(
    estimator: Any,  # noqa: ANN401
    rows: Sequence[Row],
    answers: np.ndarray,
    targets: Sequence[Any],
    labels: list[str],
) -> _Judged:
    labels = labels or [str(each) for each in estimator.classes_]
    if "" in labels:
        raise Undescribable("one of the model's labels is empty; give it a name.")
    right = _indices(estimator.classes_, targets)
    golden = [
        GoldenRow(
            features=list(rows[row]),
            label=labels[int(answers[row].argmax())],
            probabilities=dict(zip(labels, answers[row].tolist(), strict=True)),
        )
        for row in telling_rows(answers)
    ]
    accuracy = float((answers.argmax(axis=1) == right).mean())
    return _Judged(labels, {"accuracy": round(accuracy, 4)}, golden, TOLERANCE)


def _estimated(
    _: Any,  # noqa: ANN401
    rows: Sequence[Row],
    answers: np.ndarray,
    targets: Sequence[Any],
    labels: list[str],  # noqa: ARG001 - a regression has none
) -> _Judged:
    values, wanted = answers[:, 0], _values(targets)
    if len(wanted) < 2:
        raise Undescribable("the data have one row, and how good a regression is shows on two at least.")
    scores = {
        "r2": round(float(r2_score(wanted, values)), 4),
        "mean absolute error": float(f"{mean_absolute_error(wanted, values):.4g}"),
    }
    golden = [GoldenRow(features=list(rows[row]), value=float(values[row])) for row in spread_rows(values)]
    return _Judged([], scores, golden, float(f"{TOLERANCE * max(1.0, float(np.abs(values).max())):.0e}"))


def _runtime(content: bytes, task: Task, table: Table) -> tuple[Runtime, Predictor]:
    """The leanest of both that answers these rows; an estimator of named columns refuses them as plain numbers."""
    if "word" not in table.kinds:
        plain = Pickled(content, task)
        with suppress(Exception):
            plain.answer(table.rows[:1])
            return "sklearn", plain
    try:
        return "frame", Framed(content, task, table.features, table.kinds or ["number"] * len(table.features))
    except ModuleNotFoundError as error:
        raise Undescribable('the model takes named columns or words: say runtime = "frame" under [build].') from error


def _answered(predictor: Predictor, rows: Sequence[Row]) -> list[list[float]]:
    try:
        answers = predictor.answer(rows)
    # A model is anybody's code, and may raise anything, in several lines.
    except Exception as error:
        why = str(error.__cause__ or error).partition("\n")[0].rstrip(".")
        raise Undescribable(f"the model does not answer these data: {why}.") from error
    if len(answers) != len(rows):
        raise Undescribable(f"the model gives {len(answers)} numbers to {len(rows)} rows; a model predicts one thing.")
    return answers


def _indices(classes: Any, targets: Sequence[Any]) -> np.ndarray:  # noqa: ANN401
    """Which class each right answer is; data from a file are words, whatever the classes are."""
    places = {str(each): place for place, each in enumerate(classes)}
    if np.issubdtype(np.asarray(classes).dtype, np.number):
        by_number = {float(each): place for place, each in enumerate(classes)}
        places |= {str(each): by_number[number] for each in targets if (number := number_in(str(each))) in by_number}
    unknown = next((each for each in targets if str(each) not in places), None)
    if unknown is not None:
        raise Undescribable(f"the data say {unknown}, and the model knows {', '.join(map(str, classes))}.")
    return np.array([places[str(each)] for each in targets])


def _values(targets: Sequence[Any]) -> list[float]:
    values = [number_in(str(each)) for each in targets]
    if None in values:
        raise Undescribable(f"the data's target is {targets[values.index(None)]}, and the model predicts numbers.")
    return [value for value in values if value is not None]


def words(contract: Contract, unconvertible: str) -> str:
    """What was found, for people; `unconvertible` says why the lean runtime cannot hold it, empty where it can."""
    kinds = Counter(contract.feature_kinds)
    takes = " and ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in kinds.items())
    told = f"{len(contract.labels)} labels" if contract.labels else "a value"
    scores = ", ".join(f"{name} {score:g}" for name, score in contract.holdout.scores.items())
    lines = [
        f"model      {contract.task}: {takes} → {told}; {scores} on {contract.holdout.rows} rows",
        f"contract   {len(contract.golden)} golden rows, tolerance {contract.tolerance:g}, "
        f"sha256 {contract.artefact.sha256[:12]}",
    ]
    if unconvertible:
        lines += [f"not lean   {unconvertible}", f'next       say runtime = "{contract.runtime}" under [build]']
    else:
        lines += ['next       runtime = "lean" serves it, and "sklearn" as well']
    return "".join(f"{line}\n" for line in lines)


def main() -> None:
    """Describe, and say what was found."""
    parser = argparse.ArgumentParser(prog="python -m service.describe", description="Write a trained model's contract.")
    parser.add_argument("model", type=Path, help="a fitted estimator or pipeline, saved with joblib")
    parser.add_argument("data", type=Path, help="a CSV file of rows that it has not seen, with their right answers")
    parser.add_argument("--out", type=Path, default=Path("artifacts"), help="where model.pkl and model.json go")
    parser.add_argument("--name", default="model", help="what the model is called")
    parser.add_argument("--target", default="", help="the column of the right answers; the last one unless told")
    parser.add_argument("--words", default="", help="columns, with commas between, that only look like numbers")
    told = parser.parse_args()
    try:
        content = told.model.read_bytes()
        estimator = _loaded(content)
        table, targets = read(told.data, told.target, [name for name in told.words.split(",") if name])
        contract = describe(estimator, in_order_of(estimator, table), targets, told.out, name=told.name, saved=content)
    except OSError as error:
        sys.exit(f"{error.filename} cannot be read: {error.strerror}")
    except Undescribable as error:
        sys.exit(str(error))
    unconvertible = ""
    try:
        require_numbers(contract)
        flattened(estimator)
    except Unconvertible as error:
        unconvertible = str(error)
    print(words(contract, unconvertible), end="")


if __name__ == "__main__":
    main()
