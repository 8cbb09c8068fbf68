"""Reads the rows that a contract is made from: a CSV file of features and their right answers."""

from __future__ import annotations

import codecs
import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from export.errors import ContractError
from export.estimator import find_feature_names
from service.contract import Kind, Row

SEPARATORS = {";": "semicolon", "\t": "tab"}
# As pandas and as other programs write them.
BOOLEANS = {"True", "False", "true", "false", "TRUE", "FALSE"}
UNNAMED = "Unnamed: {}"
# As pandas reads a gap among numbers, in lower case.
MISSING = {"", "na", "n/a", "nan", "null", "none", "<na>", "#n/a", "-nan"}


class Table(NamedTuple):
    """Rows of a model's features in its order, and the kind of each feature; without `kinds` all are numbers."""

    features: list[str]
    rows: list[Row]
    kinds: list[Kind] = []  # noqa: RUF012 - never changed


def _no_names(_: Sequence[str]) -> list[str]:
    return []


def read_csv(
    path: Path,
    target: str,
    string_columns: Sequence[str],
    feature_names: Callable[[Sequence[str]], list[str]] = _no_names,
) -> tuple[Table, list[str]]:
    """The rows of a CSV file with a header, and the right answers: the column `target`.

    If that is "", they are the one column that is no feature, or else the last column. `feature_names` gives those of
    the model among the file's columns, if it knows any. A column has numbers if all of its cells are numbers, and
    `string_columns` does not name it. Raises ContractError.
    """
    try:
        head, *lines = [line for line in csv.reader(io.StringIO(_text(path), newline="")) if line] or [[]]
    except csv.Error as error:
        raise ContractError(f"{path.name} is not a CSV file: {error}.") from error
    if len(head) == 1 and (separators := [separator for separator in SEPARATORS if separator in head[0]]):
        raise ContractError(
            f"{path.name} separates its columns with a {SEPARATORS[separators[0]]}; write it with commas, "
            "and its numbers with a decimal point."
        )
    if len(head) < 2 or not lines:
        raise ContractError(f"{path.name} needs a line of column names, and rows of features and a target below it.")
    if not target and not head[-1]:
        raise ContractError(f"the last column of {path.name} has no name; name the right answers with --target.")
    # pandas reads a column without a name so; most often it is an index that pandas wrote.
    head = [name or UNNAMED.format(number) for number, name in enumerate(head)]
    if twice := [name for name, times in Counter(head).items() if times > 1]:
        raise ContractError(f"two columns of {path.name} are called {twice[0]}; give each its own name.")
    names = feature_names(head)
    if target in names:
        raise ContractError(f"{target} is a feature of the model, so it cannot be the target; name another --target.")
    target = target or _find_target(path, head, names)
    for name in (target, *string_columns):
        if name not in head:
            raise ContractError(f"{path.name} has no column {name}; it has {', '.join(head)}.")
    for number, line in enumerate(lines, start=2):
        if len(line) != len(head):
            raise ContractError(f"row {number} of {path.name} has {len(line)} cells, its header {len(head)}.")
    columns = dict(zip(head, zip(*lines, strict=True), strict=True))
    targets = list(columns.pop(target))
    kinds: list[Kind] = []
    for name, cells in columns.items():
        numbers = [None if name in string_columns else parse_number(cell) for cell in cells]
        if None not in numbers:
            _require_exact(path, name, cells)
            columns[name] = tuple(numbers)
            kinds.append("number")
            continue
        gaps = [row for row, cell in enumerate(cells, start=2) if cell.strip().lower() in MISSING]
        present = set(cells) - {cells[row - 2] for row in gaps}
        if name not in string_columns and present and present <= BOOLEANS:
            # An encoder that saw booleans does not know these words, and may ignore them without an error.
            raise ContractError(
                f"{name} has only {' and '.join(sorted(present))}. Train the model with 1 and 0 and write these, or "
                f"name the column with --string-columns {name} if it was trained with these words."
            )
        if gaps and name not in string_columns and any(number is not None for number in numbers):
            raise ContractError(
                f"row {gaps[0]} of {path.name} has no {name}. A row must have all features: fill it in, or "
                "remove the row."
            )
        kinds.append("string")
    return Table(list(columns), [list(row) for row in zip(*columns.values(), strict=True)], kinds), targets


def _find_target(path: Path, head: Sequence[str], names: Sequence[str]) -> str:
    """The one column that is no feature, or the last one."""
    others = [name for name in head if name not in names] if names and set(names) <= set(head) else []
    if len(others) == 1 or (others and others[-1] == head[-1]):
        return others[-1]
    if names and head[-1] in names:
        raise ContractError(
            f"the last column of {path.name}, {head[-1]}, is a feature of the model; name the right answers with "
            "--target."
        )
    return head[-1]


def _require_exact(path: Path, name: str, cells: Sequence[str]) -> None:
    """Raise ContractError for a whole number that no double holds: it would be taken for another one."""
    for row, cell in enumerate(cells, start=2):
        digits = cell.strip().lstrip("+-")
        if len(digits) > 15 and digits.isdecimal() and int(digits) != int(float(digits)):
            raise ContractError(
                f"row {row} of {path.name} has {name} {cell.strip()}: no 64-bit float holds this number, so it would "
                f"be taken for {float(digits):.0f}. An identifier is no feature: leave it out, or train with it as a "
                f"string and say --string-columns {name}."
            )


def _text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 if it begins with that one's mark."""
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


def _not_utf8(path: Path, why: str) -> ContractError:
    return ContractError(
        f"{path.name} is not in UTF-8: {why}. Save it as UTF-8; from Latin-1, iconv -f latin1 -t utf-8 does so."
    )


def select_features(estimator: Any, table: Table) -> Table:  # noqa: ANN401
    """The columns that the model was trained with, in its order. Raises ContractError."""
    named = find_feature_names(estimator, table.features)
    if not named:
        expected = getattr(estimator, "n_features_in_", len(table.features))
        if table.features[0] == UNNAMED.format(0) and expected == len(table.features) - 1:
            # The first column is an index.
            return Table(table.features[1:], [row[1:] for row in table.rows], table.kinds[1:])
        if expected != len(table.features):
            raise ContractError(
                f"the model takes {expected} features, but the data have {len(table.features)} beside their target."
            )
        return table
    missing = [name for name in named if name not in table.features]
    if missing:
        raise ContractError(f"the model takes {missing[0]}, but the data have no such column.")
    places = [table.features.index(name) for name in named]
    return Table(
        named,
        [[row[place] for place in places] for row in table.rows],
        [table.kinds[place] for place in places],
    )


def parse_number(cell: str) -> float | None:
    """The finite number that a cell holds, or None."""
    # Python reads 12_34 as a number, and no other program does.
    try:
        number = math.nan if "_" in cell else float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
