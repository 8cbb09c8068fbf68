"""Chooses golden rows: those in which a wrong model is most likely to differ; or makes them up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from export.dataset import Table
from export.evaluation import find_places
from export.stability import select_answers
from service.contract import Feature, GoldenRow, Interface, Row, Value
from service.runtimes import Answers

ROWS_PER_LABEL = 4
ROWS_PER_OUTPUT = 12
MAX_ROWS = 100
# Golden rows are chosen among so many that were made up.
SYNTHETIC_ROWS = 1_000
# A word of fewer rows may name somebody.
MIN_WORD_ROWS = 3
# If a larger share of a column's strings are different ones, it is free text.
MAX_REPEATED_SHARE = 0.5


def create_golden_rows(interface: Interface, rows: Sequence[Row], answers: Answers) -> list[GoldenRow]:
    """The golden rows among `rows`, with the answers that they got.

    A row with a value that the model was not trained with is none if there are others: a server may refuse it.
    """
    categories = [(place, frozenset(each.values)) for place, each in enumerate(interface.features) if each.values]
    known = [
        number
        for number, row in enumerate(rows)
        if all(row[place] is None or row[place] in values for place, values in categories)
    ]
    if known and len(known) < len(rows):
        rows, answers = [rows[number] for number in known], select_answers(answers, known)
    return [_create_golden_row(interface, list(rows[row]), answers, row) for row in _choose_rows(interface, answers)]


def _create_golden_row(interface: Interface, features: list[Value], answers: Answers, row: int) -> GoldenRow:
    """The row with its answer. The server's code has no part in it: its mistakes would be recorded as right."""
    labels, numbers = interface.labels, answers.numbers[row] if answers.numbers else []
    names = interface.probability_names
    probabilities = dict(zip(names, numbers, strict=True)) if names else {}
    match interface.task:
        case "regression" if interface.outputs:
            return GoldenRow(features, values=dict(zip(interface.outputs, numbers, strict=True)))
        case "regression":
            return GoldenRow(features, value=numbers[0])
        case "multilabel":
            chosen = [labels[place] for place in answers.label_sets[row]]
            return GoldenRow(features, labels=chosen, probabilities=probabilities)
    label = labels[int(np.argmax(numbers)) if answers.labels is None else answers.labels[row]]
    if interface.task == "outliers":
        return GoldenRow(features, label=label, score=numbers[0])
    return GoldenRow(features, label=label, probabilities=probabilities)


def _choose_rows(interface: Interface, answers: Answers) -> list[int]:
    numbers = np.array(answers.numbers)
    match interface.task:
        case "regression":
            by_output = [evenly_spaced_rows(values) for values in numbers.T[: MAX_ROWS // ROWS_PER_OUTPUT]]
            return list(dict.fromkeys(row for rows in by_output for row in rows))
        case "multilabel":
            sets = list(map(tuple, answers.label_sets))
            place_of = {each: place for place, each in enumerate(dict.fromkeys(sets))}
            places = np.array([place_of[each] for each in sets])
            certainty = np.abs(numbers - 0.5).min(axis=1) if numbers.size else np.zeros(len(places))
        case "outliers":
            places, certainty = find_places(answers), np.abs(numbers[:, 0])
        case _:
            places = find_places(answers)
            certainty = numbers[np.arange(len(numbers)), places] if numbers.size else np.zeros(len(places))
    return least_certain_rows(places, certainty)


def least_certain_rows(labels: np.ndarray, certainty: np.ndarray) -> list[int]:
    """At most MAX_ROWS rows, of each label those with the least certain answers: a wrong model differs there.

    `labels` has the place of each row's label, and `certainty` its probability.
    """
    by_label = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    per_label = max(1, min(ROWS_PER_LABEL, MAX_ROWS // len(by_label)))
    chosen = [rows[np.argsort(certainty[rows], kind="stable")][:per_label] for rows in by_label]
    # Beyond that many labels only some have a row.
    every = -(-len(chosen) // MAX_ROWS)
    return [int(row) for rows in chosen[::every] for row in rows]


def evenly_spaced_rows(values: np.ndarray) -> list[int]:
    """Rows from the smallest value to the largest one: a wrong scale or sign differs at one of the ends."""
    order = np.argsort(values, kind="stable")
    places = np.linspace(0, len(values) - 1, min(ROWS_PER_OUTPUT, len(values)))
    return [int(order[round(place)]) for place in places]


def find_free_text(table: Table) -> list[str]:
    """The names of columns with strings that hardly repeat: text, names, addresses."""
    found = []
    for place, feature in enumerate(table.features):
        values = [row[place] for row in table.rows if row[place] is not None]
        if feature.type == "string" and len(set(values)) > max(1, MAX_REPEATED_SHARE * len(values)):
            found.append(feature.name)
    return found


def create_synthetic_rows(table: Table) -> list[Row]:
    """Rows that nobody has: each column draws by itself from its values, and free text from its words."""
    generator = np.random.default_rng(42)
    free_text = find_free_text(table)
    columns = [
        _draw_texts(column, generator) if feature.name in free_text else _draw_values(feature, column, generator)
        for feature, column in zip(table.features, zip(*table.rows, strict=True), strict=True)
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def _draw_values(feature: Feature, column: Row, generator: np.random.Generator) -> list[Value]:
    if feature.private:
        # Every value once: how often each is there is nobody's business.
        column = list(dict.fromkeys(column))
    return [column[place] for place in generator.integers(len(column), size=SYNTHETIC_ROWS)]


def _draw_texts(column: Row, generator: np.random.Generator) -> list[Value]:
    """Texts of words that several rows have, without numbers, keys and addresses, as long as the column's own texts."""
    texts = [str(text).split() for text in column if text is not None]
    rows = Counter(word for text in texts for word in set(text))
    common = [word for word, count in rows.items() if count >= MIN_WORD_ROWS and word.isalpha()]
    # By name, so that the same data give the same rows.
    common = sorted(common) or ["words"]
    weights = np.array([rows.get(word, 1) for word in common], float)
    lengths = [len(text) for text in texts]
    return [
        " ".join(generator.choice(common, size=max(1, lengths[place]), p=weights / weights.sum()).tolist())
        for place in generator.integers(len(lengths), size=SYNTHETIC_ROWS)
    ]
