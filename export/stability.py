"""Refuses a model whose answer to a row depends on more than the row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from export.errors import ContractError
from service.contract import Row
from service.runtimes import Answers, Predictor

# Each is asked alone, which takes milliseconds.
MAX_ROWS = 50


def predict_rows(predictor: Predictor, rows: Sequence[Row]) -> Answers:
    """The model's answers to rows. Raises ContractError if it has none, or another number of them."""
    try:
        answers = predictor.predict(rows)
    # A model is anybody's code, and may raise anything, in several lines.
    except Exception as error:
        why = str(error.__cause__ or error).partition("\n")[0].rstrip(".")
        # A setting of the training is not in the pickle, and the pipeline's own is.
        hint = (
            " Call set_output(transform='pandas') of the pipeline, not set_config." if "for dataframes" in why else ""
        )
        raise ContractError(f"the model does not answer these data: {why}.{hint}") from error
    if answers.row_count != len(rows):
        raise ContractError(
            f"the model gives {answers.row_count} numbers to {len(rows)} rows; a model predicts one thing."
        )
    return answers


# One for all numbers of a row, or one for each.
Tolerance = float | np.ndarray


def require_stable_answers(predictor: Predictor, rows: Sequence[Row], answers: Answers, tolerance: Tolerance) -> None:
    """Raise ContractError if rows get other answers in a second call, in another order, or one at a time.

    A server gathers the rows of several requests in one call, so nobody may be answered by their neighbours.
    """
    places = [int(place) for place in np.linspace(0, len(rows) - 1, min(MAX_ROWS, len(rows)))]
    chosen = [rows[place] for place in places]
    expected = select_answers(answers, places)
    again = select_answers(predict_rows(predictor, rows), places)
    if (place := find_first_difference(expected, again, tolerance)) is not None:
        raise ContractError(
            f"the model gives row {places[place] + 1} of the data another answer when it is asked again. A model must "
            "answer the same row in the same way: give it a fixed random_state."
        )
    alone = [_predict_alone(predictor, row, places[number] + 1) for number, row in enumerate(chosen)]
    others = {
        "in another order": select_answers(predict_rows(predictor, chosen[::-1]), range(len(chosen) - 1, -1, -1)),
        "alone": Answers(
            [numbers for each in alone for numbers in each.numbers],
            None if answers.labels is None else [label for each in alone for label in each.labels or ()],
            [labels for each in alone for labels in each.label_sets],
        ),
    }
    for how, given in others.items():
        if (place := find_first_difference(expected, given, tolerance)) is not None:
            raise ContractError(
                f"the model gives row {places[place] + 1} of the data another answer when it is asked {how}: the "
                "answer depends on the rows beside it. Fit what scales or ranks on the training data, not when "
                "predicting."
            )


def _predict_alone(predictor: Predictor, row: Row, number: int) -> Answers:
    try:
        return predict_rows(predictor, [row])
    except ContractError as error:
        raise ContractError(
            f"the model answers the rows together, but not row {number} alone. A step may make its columns from the "
            "rows that it gets, as get_dummies does: use one that is fitted, such as OneHotEncoder."
        ) from error


def select_answers(answers: Answers, places: Sequence[int]) -> Answers:
    """The answers to the rows at these places."""
    return Answers(
        [answers.numbers[place] for place in places] if answers.numbers else [],
        None if answers.labels is None else [answers.labels[place] for place in places],
        [answers.label_sets[place] for place in places] if answers.label_sets else [],
    )


def find_first_difference(left: Answers, right: Answers, tolerance: Tolerance) -> int | None:
    """The first row with another label, or with numbers that differ by more than the tolerance."""
    if left.row_count != right.row_count:
        return 0
    differs = np.zeros(left.row_count, bool)
    if left.numbers:
        numbers, others = np.array(left.numbers), np.array(right.numbers)
        # Not `>`: a NaN would pass.
        differs |= ~(np.abs(numbers - others) <= tolerance).all(axis=1)
        if left.labels is None and not left.label_sets and numbers.shape[1] > 1:
            differs |= numbers.argmax(axis=1) != others.argmax(axis=1)
    if left.labels is not None:
        differs |= np.array(left.labels) != np.array(right.labels)
    if left.label_sets:
        differs |= np.array([one != other for one, other in zip(left.label_sets, right.label_sets, strict=True)])
    return int(np.flatnonzero(differs)[0]) if differs.any() else None
