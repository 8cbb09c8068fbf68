"""Evaluates a model with the right answers of rows that it has not seen."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from export.dataset import BOOLEANS, list_names, parse_number
from export.errors import ContractError, ContractWarning
from export.estimator import is_gap, last_step
from export.scores import (
    MAX_LABELS,
    CustomScores,
    score_classifier,
    score_clustering,
    score_multilabel,
    score_outliers,
    score_regressor,
)
from service.contract import OUTLIER_LABELS, Holdout, Interface, Label, Output, Task, label_text
from service.runtimes import Answers
from service.runtimes.sklearn import count_clusters, find_labels

# Of fewer rows a score says little, and a good model may look no better than guessing.
MIN_SCORED_ROWS = 20
# Only the order of a sum differs between processors. The tolerance of values is a millionth of the largest one: an
# absolute one would let any model pass whose values are small.
TOLERANCE = 1e-6
# If two columns of right answers fit so much better the other way round, they are most likely in another order.
SWAP_GAIN = 0.02
# Each column of right answers by its name.
Targets = Mapping[str, Sequence[Any]]


class Evaluation(NamedTuple):
    """What the right answers say of a model."""

    holdout: Holdout
    tolerance: float
    outputs: list[Output]


def find_label_names(
    estimator: Any,  # noqa: ANN401
    task: Task,
    names: Sequence[Label],
    targets: Targets,
) -> list[Label]:
    """The labels of a model in their order: `names` if there are some, or else what it calls them itself.

    A model of several labels does not name them: they have the names of their columns. Raises ContractError.
    """
    match task:
        case "regression":
            return []
        case "multilabel":
            labels = list(names) or [str(name) for name in targets]
            count = len(estimator.classes_)
            if len(labels) != count:
                raise ContractError(
                    f"{type(last_step(estimator)).__name__} gives {count} answers to each row, and the data have "
                    f"{len(labels)} column{'' if len(labels) == 1 else 's'} of right answers. Name one for each label "
                    "with --target A,B."
                )
        case "clustering":
            count = count_clusters(estimator)
            if not count:
                raise ContractError(f"{type(estimator).__name__} does not say how many clusters it has.")
            labels = list(range(count))
        case _:
            labels = list(names) or list(map(_plain_label, find_labels(estimator, task)))
    if "" in map(label_text, labels):
        raise ContractError("one of the model's labels is empty; give it a name.")
    return labels


def _plain_label(label: Any) -> Label:  # noqa: ANN401
    plain: Label = label.item() if isinstance(label, np.generic) else label
    if isinstance(plain, bool | str | int) or (isinstance(plain, float) and math.isfinite(plain)):
        return plain
    raise ContractError(f"{label!r} is no label: JSON has strings, numbers and booleans.")


def evaluate(
    estimator: Any,  # noqa: ANN401
    interface: Interface,
    answers: Answers,
    targets: Targets,
    custom_scores: CustomScores,
) -> Evaluation:
    """Score the answers to the held-out rows. Raises ContractError if they are no better than guessing."""
    for name, cells in targets.items():
        if row := next((row for row, cell in enumerate(cells, start=1) if cell == "" or is_gap(cell)), 0):
            column = f" in {name}" if name else ""
            raise ContractError(f"row {row} of the data has no right answer{column}. Fill it in, or remove the row.")
    match interface.task:
        case "regression":
            return _evaluate_regressor(answers, targets, custom_scores)
        case "multilabel":
            return _evaluate_multilabel(interface, answers, targets, custom_scores)
        case "outliers":
            return _evaluate_outliers(answers, targets, custom_scores)
        case "clustering":
            places = np.array(answers.labels)
            right = next((np.unique(cells, return_inverse=True)[1] for cells in map(_to_texts, targets.values())), None)
            return Evaluation(score_clustering(places, right, custom_scores), TOLERANCE, [])
        case _:
            return _evaluate_classifier(estimator, interface, answers, targets, custom_scores)


def find_places(answers: Answers) -> np.ndarray:
    """The place of each row's label among the labels."""
    return np.array(answers.numbers).argmax(axis=1) if answers.labels is None else np.array(answers.labels)


def _only(targets: Targets) -> tuple[str, Sequence[Any]]:
    if len(targets) != 1:
        raise ContractError(
            f"the model gives one answer to each row, and the data have {len(targets)} columns of right answers; name "
            "one with --target."
        )
    return next(iter(targets.items()))


def _to_texts(cells: Sequence[Any]) -> np.ndarray:
    return np.array([str(cell) for cell in cells])


def _evaluate_classifier(
    estimator: Any,  # noqa: ANN401
    interface: Interface,
    answers: Answers,
    targets: Targets,
    custom_scores: CustomScores,
) -> Evaluation:
    places, right = find_places(answers), _find_classes(estimator.classes_, targets)
    _require_better_than_guessing(places, right)
    holdout = score_classifier(interface.labels, right, places, np.array(answers.numbers), custom_scores)
    return Evaluation(holdout, TOLERANCE, [])


def _evaluate_multilabel(
    interface: Interface, answers: Answers, targets: Targets, custom_scores: CustomScores
) -> Evaluation:
    right = np.column_stack([_find_flags(name, cells) for name, cells in targets.items()])
    predicted = np.zeros_like(right)
    for row, places in enumerate(answers.label_sets):
        predicted[row, places] = True
    names = [label_text(label) for label in interface.labels]
    for place, name in enumerate(names):
        _require_better_than_guessing(predicted[:, place].astype(int), right[:, place].astype(int), f" of {name}")
    if 1 < len(names) <= MAX_LABELS and len(right) >= MIN_SCORED_ROWS:
        _warn_of_another_order(names, (predicted[:, :, None] == right[:, None, :]).mean(axis=0))
    return Evaluation(score_multilabel(names, right, predicted, custom_scores), TOLERANCE, [])


def _evaluate_outliers(answers: Answers, targets: Targets, custom_scores: CustomScores) -> Evaluation:
    places, scores = np.array(answers.labels), np.array(answers.numbers)
    right = _find_classes(np.array(OUTLIER_LABELS), targets) if targets else None
    return Evaluation(score_outliers(right, places, custom_scores), _scale_tolerance(scores), [])


def _evaluate_regressor(answers: Answers, targets: Targets, custom_scores: CustomScores) -> Evaluation:
    values = np.array(answers.numbers)
    if values.shape[1] != len(targets):
        raise ContractError(
            f"the model gives {values.shape[1]} values to each row, and the data have {len(targets)} "
            f"column{'' if len(targets) == 1 else 's'} of right answers; name one for each value with --target A,B."
        )
    right = np.column_stack([_find_values(name, cells) for name, cells in targets.items()])
    if len(right) < 2:
        raise ContractError("the data have one row, but the score of a regression needs at least two.")
    names = [str(name) for name in targets] if len(targets) > 1 else []
    holdout = score_regressor(names, right, values, custom_scores)
    for name in names or [""]:
        r2 = holdout.scores.get(f"r2.{name}" if name else "r2", 0)
        if r2 < 0 and len(right) >= MIN_SCORED_ROWS:
            value = f" of {name}" if name else ""
            raise ContractError(
                f"the model is worse than always saying the mean of the {len(right)} rows{value} (r2 {r2:.4g}). Most "
                "often the target is another column, or the columns are in another order."
            )
    if 1 < len(names) <= MAX_LABELS and len(right) >= MIN_SCORED_ROWS:
        # Of a column that never changes, and of numbers as large as 1e200.
        with np.errstate(over="ignore", invalid="ignore"):
            errors = np.square(values[:, :, None] - right[:, None, :]).mean(axis=0)
            fit = np.exp(-errors / np.maximum(right.var(axis=0), np.finfo(float).tiny))
        _warn_of_another_order(names, fit)
    outputs = [Output(name, _scale_tolerance(values[:, place])) for place, name in enumerate(names)]
    return Evaluation(holdout, _scale_tolerance(values), outputs)


def _warn_of_another_order(names: Sequence[str], fit: np.ndarray) -> None:
    """Warn if two columns of right answers are most likely exchanged: the model does not say which is which.

    `fit` says how well the answers of each row fit each column: 1 is perfect, 0 is not at all.
    """
    own = np.diag(fit)
    gain = np.triu(fit + fit.T - own[:, None] - own)
    first, second = np.unravel_index(gain.argmax(), gain.shape)
    if gain[first, second] > SWAP_GAIN:
        warnings.warn(
            f"the answers for {names[first]} fit {names[second]} better, and the other way round. Most often the "
            "columns of right answers are in another order than in the training: name them in that order with "
            "--target A,B.",
            ContractWarning,
            stacklevel=2,
        )


def _scale_tolerance(values: np.ndarray) -> float:
    return float(f"{TOLERANCE * float(np.abs(values).max()):.0e}")


def _require_better_than_guessing(places: np.ndarray, right: np.ndarray, label: str = "") -> None:
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
            f"the model is right on {accuracy:.0%} of the {len(right)} rows{label}; always the same label would be "
            f"right on {shares.max():.0%}. Most often the target is another column, or the columns are in another "
            "order."
        )


def _find_classes(classes: Any, targets: Targets) -> np.ndarray:  # noqa: ANN401
    """The index of each right answer's class. Answers from a file are strings, whatever the classes are."""
    column, cells = _only(targets)
    places = {str(name): place for place, name in enumerate(classes)}
    if np.asarray(classes).dtype == bool:
        words = {word: str(value) for word, value in BOOLEANS.items()} | {"1": "True", "0": "False"}
        places |= {word: places[name] for word, name in words.items() if name in places}
    if np.issubdtype(np.asarray(classes).dtype, np.number):
        by_number = {float(name): place for place, name in enumerate(classes)}
        numbers = {str(cell): BOOLEANS.get(str(cell), parse_number(str(cell))) for cell in cells}
        places |= {name: by_number[number] for name, number in numbers.items() if number in by_number}
    unknown = next((cell for cell in cells if str(cell) not in places), None)
    if unknown is not None:
        raise ContractError(
            f"{f'the column {column} has' if column else 'the data have'} the answer {unknown}, but the model has only "
            f"{list_names(list(map(str, classes)))}."
        )
    return np.array([places[str(cell)] for cell in cells])


def _find_flags(name: str, cells: Sequence[Any]) -> np.ndarray:
    """Whether each row has this label: its column has 1 and 0, or true and false."""
    words = {**BOOLEANS, "1": True, "1.0": True, "0": False, "0.0": False}
    unknown = next((cell for cell in cells if str(cell) not in words), None)
    if unknown is not None:
        raise ContractError(
            f"the column {name} has {unknown}, but the model says whether a row has this label: write 1 or 0."
        )
    return np.array([words[str(cell)] for cell in cells])


def _find_values(name: str, cells: Sequence[Any]) -> list[float]:
    values = [parse_number(str(cell)) for cell in cells]
    if None in values:
        raise ContractError(f"the column {name} has {cells[values.index(None)]}, but the model predicts numbers.")
    return [value for value in values if value is not None]
