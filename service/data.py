"""Reads the data that a model is described from: a CSV file of rows with their right answers."""

from __future__ import annotations

import codecs
import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from service.contract import Kind, Row

SEPARATORS = {";": "semicolon", "\t": "tab"}
UNNAMED = "Unnamed: {}"


class Undescribable(Exception):
    """A model or data of which no contract can be made; the message says why, and what to do."""


class Table(NamedTuple):
    """Rows of a model's features, in its order, and what each of them is; empty `kinds`: all are numbers."""

    features: list[str]
    rows: list[Row]
    kinds: list[Kind] = []  # noqa: RUF012 - never changed


def read(path: Path, target: str, words: Sequence[str]) -> tuple[Table, list[str]]:
    """The rows of a CSV file with a head, and the right answers: the column `target`, or the last one where it is "".

    A column is one of numbers where each of its cells is one, unless `words` names it. Raises Undescribable.
    """
    try:
        head, *lines = [line for line in csv.reader(io.StringIO(_text(path), newline="")) if line] or [[]]
    except csv.Error as error:
        raise Undescribable(f"{path.name} is no CSV file: {error}.") from error
    if len(head) == 1 and (separators := [each for each in SEPARATORS if each in head[0]]):
        raise Undescribable(
            f"{path.name} separates its columns by a {SEPARATORS[separators[0]]}; write it with commas, "
            "and its numbers with a decimal point."
        )
    if len(head) < 2 or not lines:
        raise Undescribable(f"{path.name} has no rows of features and a target below a line with their names.")
    if not target and not head[-1]:
        raise Undescribable(f"the last column of {path.name} has no name; name the right answers with --target.")
    # As pandas calls what it reads without a name, most often an index that it wrote itself.
    head = [name or UNNAMED.format(number) for number, name in enumerate(head)]
    if twice := [name for name, times in Counter(head).items() if times > 1]:
        raise Undescribable(f"two columns of {path.name} are called {twice[0]}; give each its own name.")
    target = target or head[-1]
    for name in (target, *words):
        if name not in head:
            raise Undescribable(f"{path.name} has no column {name}; it has {', '.join(head)}.")
    for number, line in enumerate(lines, start=2):
        if len(line) != len(head):
            raise Undescribable(f"row {number} of {path.name} has {len(line)} cells, its head {len(head)}.")
    columns = dict(zip(head, zip(*lines, strict=True), strict=True))
    targets = list(columns.pop(target))
    kinds: list[Kind] = []
    for name, cells in columns.items():
        numbers = [None if name in words else number_in(cell) for cell in cells]
        if None not in numbers:
            columns[name] = tuple(numbers)
            kinds.append("number")
            continue
        if "" in cells and any(number is not None for number in numbers):
            raise Undescribable(
                f"row {cells.index('') + 2} of {path.name} has no {name}; a row has all of its features: fill it in, "
                "or leave it out."
            )
        kinds.append("word")
    return Table(list(columns), [list(row) for row in zip(*columns.values(), strict=True)], kinds), targets


def _text(path: Path) -> str:
    """The text of a file in UTF-8, or in another one of Unicode's forms if it begins with its mark."""
    content = path.read_bytes()
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _not_utf8(path, f"line {line} has a byte that is not UTF-8") from error
    if "\0" in text:
        raise _not_utf8(path, "it has zero bytes, as UTF-16 does")
    return text


def _not_utf8(path: Path, why: str) -> Undescribable:
    return Undescribable(
        f"{path.name} is not in UTF-8: {why}. Save it as UTF-8; from Latin-1, iconv -f latin1 -t utf-8 does so."
    )


def in_order_of(estimator: Any, table: Table) -> Table:  # noqa: ANN401
    """The table with the features that the model was trained with, in its order. Raises Undescribable."""
    named = getattr(estimator, "feature_names_in_", None)
    if named is None:
        expected = getattr(estimator, "n_features_in_", len(table.features))
        if table.features[0] == UNNAMED.format(0) and expected == len(table.features) - 1:
            # The index of whoever wrote the file.
            return Table(table.features[1:], [row[1:] for row in table.rows], table.kinds[1:])
        if expected != len(table.features):
            raise Undescribable(
                f"the model takes {expected} features, and the data have {len(table.features)} beside their target."
            )
        return table
    missing = [name for name in named if name not in table.features]
    if missing:
        raise Undescribable(f"the model takes {missing[0]}, and the data have no such column.")
    places = [table.features.index(name) for name in named]
    return Table(
        [str(name) for name in named],
        [[row[place] for place in places] for row in table.rows],
        [table.kinds[place] for place in places],
    )


def number_in(cell: str) -> float | None:
    """The finite number that a cell holds, or None."""
    # To Python 12_34 is a number as well, to whoever wrote the file it is none.
    try:
        number = math.nan if "_" in cell else float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
