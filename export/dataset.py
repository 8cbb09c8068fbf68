"""The rows that a contract is made from, with a type for each column and their right answers."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from export.errors import ContractError
from export.estimator import (
    count_features,
    count_outputs,
    find_categories,
    find_columns_with_gaps,
    find_feature_names,
    find_string_columns,
    find_task,
    is_gap,
    last_step,
)
from export.parquet import Cell
from export.table import MISSING, UNNAMED, RawTable
from service.contract import MAX_INTEGER, Feature, FeatureType, Row, Value

# As pandas and as other programs write them.
BOOLEANS = {"True": True, "true": True, "TRUE": True, "False": False, "false": False, "FALSE": False}
# If more of a column's cells are numbers, its other cells are most likely mistakes.
MOSTLY = 0.5
# A table may have thousands of columns, and an error is one sentence.
SHOWN_NAMES = 20
# The line of a file's first row; its header is line 1.
FIRST_ROW = 2
# A postcode or an account: as a number it would lose its zero.
LEADING_ZERO = re.compile(r"[+-]?0\d")


class Table(NamedTuple):
    """Rows of a model's features, in its order."""

    features: list[Feature]
    rows: list[Row]


def number_table(names: Sequence[str], rows: Sequence[Row]) -> Table:
    """A table of numbers."""
    return Table([Feature(name, "number") for name in names], list(rows))


def frame_table(frame: Any) -> Table:  # noqa: ANN401 - pandas is not always there
    """A data frame; each column has the type of its pandas type. NaN, NaT and None are missing values."""
    import pandas

    types = pandas.api.types
    require_unique_names([str(name) for name in frame.columns])
    features, columns = [], []
    for name in frame.columns:
        series = frame[name]
        is_missing = series.isna()
        kind: FeatureType = "string"
        if isinstance(series.dtype, types.CategoricalDtype):
            series = series.astype(object)
        if types.is_bool_dtype(series.dtype):
            kind = "boolean"
        elif types.is_integer_dtype(series.dtype):
            kind = "integer"
        elif types.is_numeric_dtype(series.dtype):
            kind = "number"
        values = series.astype(object).where(~is_missing, None).tolist()
        if kind == "string":
            kind, values = _type_objects(str(name), values)
        features.append(Feature(str(name), kind, missing=bool(is_missing.any())))
        columns.append(values)
    return Table(features, [list(row) for row in zip(*columns, strict=True)])


def _type_objects(name: str, values: Sequence[Any]) -> tuple[FeatureType, list[Value]]:
    """The type of a column of Python's own values."""
    present = {type(value) for value in values if value is not None}
    if present <= {bool}:
        return "boolean", list(values)
    if present <= {int, float}:
        return "integer" if present == {int} else "number", list(values)
    if present <= {str}:
        return "string", list(values)
    raise refuse_types(name, present)


def refuse_types(name: str, types: Iterable[type]) -> ContractError:
    """The error for a column whose values have these types: they are more than one, or not of JSON."""
    found = " and ".join(sorted(kind.__name__ for kind in types))
    return ContractError(
        f"{name} has values of the type {found}; a feature is a number, a boolean or a string. Convert it before the "
        "model is trained."
    )


def require_unique_names(names: Sequence[str]) -> None:
    """Raise ContractError if two features have one name."""
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise ContractError(f"two features are called {twice[0]}; give each its own name.")


class Dataset(NamedTuple):
    """A table, and the columns of right answers by their names; no column if there are none."""

    table: Table
    targets: dict[str, list[Any]]


def create_dataset(
    path: Path,
    raw: RawTable,
    estimator: Any,  # noqa: ANN401
    targets: Sequence[str] = (),
    string_columns: Sequence[str] = (),
    number_columns: Sequence[str] = (),
) -> Dataset:
    """Give each column of a file a type, and take the right answers out of it.

    `targets` are the columns of right answers. If there are none, they are the columns that are no features, or the
    last ones. An encoder in the model says which type its column has, and what counts words takes strings. Without
    these, a column of true and false has booleans, a column of whole numbers has integers unless it is in
    `number_columns`, a column of numbers has numbers, and any other one has strings. So have those in `string_columns`,
    and those of strings in a Parquet file. `raw` is empty afterwards: cells and values together take twice the memory.
    Raises ContractError.
    """
    columns = raw.columns
    names = find_feature_names(estimator, list(columns))
    for name in targets:
        if name in names:
            raise ContractError(f"{name} is a feature of the model, so it cannot be the target; name another --target.")
    for name in (*targets, *string_columns, *number_columns):
        if name not in columns:
            raise ContractError(f"{path.name} has no column {name}; it has {list_names(list(columns))}.")
    answers = {name: columns.pop(name) for name in targets or _find_targets(path, estimator, list(columns), names)}
    names = select_features(estimator, list(columns))
    categories, with_gaps = find_categories(estimator, names), find_columns_with_gaps(estimator, names)
    strings = {*string_columns, *find_string_columns(estimator, names)}
    if raw.has_types:
        strings |= {name for name in names if any(isinstance(cell, str) for cell in columns[name])}
    typed = {
        name: _type_cells(
            path,
            name,
            columns.pop(name),
            categories.get(name, []) + ([None] if name in with_gaps else []),
            is_string=name in strings,
        )
        for name in names
    }
    columns.clear()
    features = [
        Feature(name, "number" if kind == "integer" and name in number_columns else kind, missing=None in values)
        for name, (kind, values) in typed.items()
    ]
    rows: list[Row] = [list(row) for row in zip(*(values for _, values in typed.values()), strict=True)]
    return Dataset(Table(features, rows), answers)


def _find_targets(path: Path, estimator: Any, columns: Sequence[str], names: Sequence[str]) -> list[str]:  # noqa: ANN401
    """The columns of right answers: those that are no features, or the last ones. A model may need no answers."""
    task, name = find_task(estimator), type(last_step(estimator)).__name__
    count = count_outputs(estimator, task)
    needs_answers = task not in ("outliers", "clustering")
    if not names or not set(names) <= set(columns):
        # What the model was trained with has no names. An index may come first.
        expected = count_features(estimator)
        if not needs_answers and expected in (len(columns), len(columns) - columns.count(UNNAMED.format(0))):
            return []
        if names and columns[-1] in names:
            raise _feature_error(path, columns[-1])
        if count > 1 and expected is not None and len(columns) - expected < count:
            raise _target_count_error(path, name, count, len(columns) - expected)
        return list(columns[-count:])
    features = set(names)
    others = [name for name in columns if name not in features]
    # An index is no answer if there are others, or if none is needed.
    others = [name for name in others if name != UNNAMED.format(0)] or (others if needs_answers else [])
    if len(others) == count or (not needs_answers and not others):
        return others
    if count > 1:
        raise _target_count_error(path, name, count, len(others))
    if columns[-1] in names:
        raise _feature_error(path, columns[-1])
    return [columns[-1]]


def list_names(names: Sequence[str]) -> str:
    """The first names in a sentence, and how many more there are."""
    more = len(names) - SHOWN_NAMES
    return f"{', '.join(names[:SHOWN_NAMES])}{f' and {more:,} more' if more > 0 else ''}"


def _target_count_error(path: Path, name: str, expected: int, count: int) -> ContractError:
    return ContractError(
        f"{name} gives {expected} answers to each row, and {path.name} has {count} column{'' if count == 1 else 's'} "
        "beside the features. Add the right answers, one column for each, or name them with --target A,B."
    )


def _feature_error(path: Path, name: str) -> ContractError:
    return ContractError(
        f"the last column of {path.name}, {name}, is a feature of the model; name the right answers with --target."
    )


def select_features(estimator: Any, columns: Sequence[str]) -> list[str]:  # noqa: ANN401
    """The columns that the model was trained with, in its order. Raises ContractError."""
    names = find_feature_names(estimator, columns)
    if names:
        known = set(columns)
        if missing := [name for name in names if name not in known]:
            raise ContractError(f"the model takes {missing[0]}, but the data have no such column.")
        return names
    expected = count_features(estimator)
    if expected == len(columns) - 1 and columns[0] == UNNAMED.format(0):
        # The first column is an index.
        return list(columns[1:])
    if expected not in (None, len(columns)):
        words = f"{expected} feature{'' if expected == 1 else 's'}"
        listed = f": {list_names(columns)}" if columns else ""
        raise ContractError(f"the model takes {words}, but the data have {len(columns)} beside their target{listed}.")
    return list(columns)


def _type_cells(
    path: Path, name: str, cells: Sequence[Cell], known: Sequence[Any], *, is_string: bool
) -> tuple[FeatureType, list[Value]]:
    """The type of a column, and its values; `known` are those that the model was fitted on, as far as that shows."""
    gaps = [cell is None or (isinstance(cell, str) and cell.strip().lower() in MISSING) for cell in cells]
    fitted = [value for value in known if not is_gap(value)]
    if is_string:
        # "NA" may be Namibia. It is a gap if the encoder knows gaps, and does not know it.
        knows_gaps = len(fitted) < len(known)
        return "string", [
            None if gap and cell not in fitted and (knows_gaps or cell in (None, "")) else str(cell)
            for cell, gap in zip(cells, gaps, strict=True)
        ]
    is_boolean = bool(fitted) and all(isinstance(value, bool | np.bool_) for value in fitted)
    booleans: list[Value] = [_parse_boolean(cell, accepts_numbers=is_boolean) for cell in cells]
    if not all(gaps) and all(gap or value is not None for gap, value in zip(gaps, booleans, strict=True)):
        return "boolean", booleans
    numbers = [None if gap else _parse_cell(cell) for cell, gap in zip(cells, gaps, strict=True)]
    read = booleans if is_boolean else numbers
    words = [row for row, gap in enumerate(gaps) if not gap and read[row] is None]
    has_code = any(isinstance(cell, str) and LEADING_ZERO.match(cell.strip()) for cell in cells)
    if not words and (fitted or not has_code):
        _require_exact(path, name, cells)
        is_integer = all(gap or _is_integer(cell) for cell, gap in zip(cells, gaps, strict=True)) and all(
            number is None or abs(number) <= MAX_INTEGER for number in numbers
        )
        return ("integer" if is_integer and not all(gaps) else "number"), [
            int(number) if is_integer and number is not None else number for number in numbers
        ]
    other_count = len(cells) - sum(gaps) - len(words)
    if fitted and words and other_count:
        raise ContractError(
            f"row {words[0] + FIRST_ROW} of {path.name} has {name} {cells[words[0]]!r}, and the model was trained with "
            f"{list_names(list(map(str, fitted)))}. Write it as it was when the model was trained, or remove the row."
        )
    if words and other_count > MOSTLY * len(cells):
        raise ContractError(
            f"row {words[0] + FIRST_ROW} of {path.name} has {name} {cells[words[0]]!r}, and most cells of this column "
            f"are numbers. Write it as a number, such as 1659.5, or name the column with --string-columns {name}."
        )
    return "string", [None if cell is None or cell == "" else str(cell) for cell in cells]


def _parse_boolean(cell: Cell, *, accepts_numbers: bool) -> bool | None:
    if isinstance(cell, bool):
        return cell
    text = str(cell).strip()
    if accepts_numbers and (number := parse_number(text)) in (0, 1):
        return number == 1
    return BOOLEANS.get(text) if isinstance(cell, str) else None


def _parse_cell(cell: Cell) -> float | None:
    return parse_number(cell) if isinstance(cell, str) else None if cell is None else float(cell)


def _is_integer(cell: Cell) -> bool:
    if isinstance(cell, str):
        return cell.strip().lstrip("+-").isdecimal()
    return isinstance(cell, int)


def _require_exact(path: Path, name: str, cells: Sequence[Cell]) -> None:
    """Raise ContractError for a whole number that no double holds: it would be taken for another one."""
    for row, cell in enumerate(cells, start=FIRST_ROW):
        digits = str(cell).strip().lstrip("+-")
        if len(digits) > 15 and digits.isdecimal() and int(digits) != int(float(digits)):
            raise ContractError(
                f"row {row} of {path.name} has {name} {str(cell).strip()}: no 64-bit float holds this number, so it "
                f"would be taken for {float(digits):.0f}. An identifier is no feature: leave it out, or train with it "
                f"as a string and say --string-columns {name}."
            )


def parse_number(cell: str) -> float | None:
    """The finite number that a cell holds, or None."""
    # Python reads 12_34 as a number, and no other program does.
    try:
        number = math.nan if "_" in cell else float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
