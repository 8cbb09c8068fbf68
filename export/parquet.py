"""Reads a Parquet file into columns of plain values."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from export.errors import ContractError

if TYPE_CHECKING:
    from arro3.core import DataType, RecordBatchReader, Schema

Cell = str | bool | int | float | None
MAGIC = b"PAR1"
# A few kilobytes can hold a billion equal rows. This is 500 rows of 20,000 columns.
MAX_CELLS = 10_000_000
# As pandas writes an index without a name.
INDEX = "__index_level_"
# arro3 says of a broken text each of its bytes.
REASON_CHARACTERS = 200


def read_parquet(file: str, content: bytes) -> tuple[list[str], list[list[Cell]]]:
    """Names and cells of the columns: bool, int, float, str, or None for null and NaN.

    An index that pandas wrote comes first, as in a CSV file; one without a name is called "". `file` is the name of
    the file. Raises ContractError.
    """
    if not content.endswith(MAGIC):
        raise ContractError(f"{file} is cut short: a Parquet file ends as it begins. Copy it again.")
    try:
        from arro3 import io
    except ModuleNotFoundError as error:
        raise ContractError(
            f"{file} is a Parquet file, which needs arro3-io; install requirements/exporter.txt, or write it as CSV."
        ) from error
    try:
        reader = io.read_parquet(content)
        _check_types(file, reader.schema)
        columns = _read_columns(file, reader)
        index = _find_index(reader.schema)
    except ContractError:
        raise
    except BaseException as error:
        # arro3 panics if a file is broken, and a panic is no Exception.
        if isinstance(error, KeyboardInterrupt):
            raise
        reason = str(error)[:REASON_CHARACTERS]
        raise ContractError(
            f"{file} is not a readable Parquet file: {reason}. Write it again, or write CSV."
        ) from error
    if not columns or not columns[0]:
        raise ContractError(f"{file} needs rows of features and a target.")
    names = reader.schema.names
    order = sorted(range(len(names)), key=lambda place: names[place] not in index)
    return ["" if names[place].startswith(INDEX) else names[place] for place in order], [columns[p] for p in order]


def _check_types(file: str, schema: Schema) -> None:
    """Raise ContractError for the first column whose values JSON does not have."""
    for column, kind in zip(schema.names, schema.types, strict=True):
        if reason := _refuse_type(kind.value_type if kind.is_dictionary(kind) and kind.value_type else kind):
            raise ContractError(f"{column} of {file} has {reason}, as its training had them, or leave the column out.")


def _refuse_type(kind: DataType) -> str:
    """What a column of this type has, and what to write in its place; "" if JSON has its values."""

    def is_one_of(*names: str) -> bool:
        return any(getattr(kind, f"is_{name}")(kind) for name in names)

    if is_one_of("nested"):
        return "lists or records. Write each of their values as a column"
    if is_one_of("temporal"):
        return "dates or times. Write them as numbers or strings"
    if is_one_of("boolean", "integer", "floating", "decimal", "string", "large_string", "string_view", "null"):
        return ""
    return "bytes. Write them as strings"


def _read_columns(file: str, reader: RecordBatchReader) -> list[list[Cell]]:
    columns: list[list[Cell]] = [[] for _ in reader.schema.names]
    for batch in reader:
        if (len(columns[0]) + batch.num_rows) * len(columns) > MAX_CELLS:
            raise ContractError(
                f"{file} has more than {MAX_CELLS // len(columns):,} rows. Some hundred rows that the model has not "
                "seen are enough."
            )
        for cells, array in zip(columns, batch.columns, strict=True):
            cells += map(_plain_cell, array.to_pylist())
    for column, cells in zip(reader.schema.names, columns, strict=True):
        if not {math.inf, -math.inf}.isdisjoint(cells):
            raise ContractError(
                f"{column} of {file} has an infinite number, which JSON has not. Write another number, or none."
            )
    return columns


def _plain_cell(value: Any) -> Cell:  # noqa: ANN401
    if isinstance(value, Decimal):
        return int(value) if value.as_tuple().exponent == 0 else float(value)
    if isinstance(value, float) and math.isnan(value):
        return None
    cell: Cell = value
    return cell


def _find_index(schema: Schema) -> set[str]:
    """The columns that pandas took from the index; a plain count of the rows is not among them."""
    pandas = json.loads(schema.metadata.get(b"pandas", b"{}"))
    return {each for each in pandas.get("index_columns", []) if isinstance(each, str)}
