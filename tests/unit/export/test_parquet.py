from __future__ import annotations

import sys
from pathlib import Path

import pytest
from arro3.core import Array, DataType, Field, Table, struct_array
from arro3.io import write_parquet

from export.errors import ContractError
from export.table import read_table

FLOAT, INTEGER, STRING = DataType.float64(), DataType.int64(), DataType.string()
LEFT = Array(["no", "yes"], STRING)


def write(folder: Path, **columns: Array) -> Path:
    write_parquet(Table.from_arrays(list(columns.values()), names=list(columns)), folder / "rows.parquet")
    return folder / "rows.parquet"


def refused(path: Path) -> str:
    with pytest.raises(ContractError) as error:
        read_table(path)
    return str(error.value)


def test_a_parquet_file_keeps_its_types_and_its_gaps(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        member=Array([True, None], DataType.bool()),
        visits=Array([2**53 + 1, None], INTEGER),
        # NaN is a gap; a number of 32 bits has the value that a model was trained with.
        income=Array([float("nan"), 0.1], DataType.float32()),
        price=Array([1.5, None], FLOAT).cast(DataType.decimal128(10, 2)),
        account=Array([12345678901234567, None], INTEGER).cast(DataType.decimal128(38, 0)),
        city=Array(["Zürich", ""], STRING),
        left=Array(["NA", None], DataType.large_string()),
    )
    columns = read_table(path).columns
    assert columns == {
        "member": [True, None],
        "visits": [9007199254740993, None],
        "income": [None, 0.10000000149011612],
        "price": [1.5, None],
        "account": [12345678901234567, None],
        "city": ["Zürich", ""],
        "left": ["NA", None],
    }
    assert [type(cells[0]) for cells in columns.values()] == [bool, int, type(None), float, int, str, str]


def test_a_file_of_pandas_is_read_like_its_csv_file() -> None:
    # DataFrame.to_parquet of pandas 3.1 and PyArrow 26, of rows 5, 7 and 9, with pages of version 2.
    assert read_table(Path(__file__).with_name("pandas.parquet")).columns == {
        "Unnamed: 0": [5, 7, 9],
        "age": [41, 36, 58],
        "city": ["Bern", "Zürich", "Bern"],
        "visits": [3, None, 5],
        "member": [True, None, False],
        "income": [52.5, None, 61.25],
        "left": ["no", "yes", "no"],
    }


def test_a_parquet_file_is_known_by_its_bytes(tmp_path: Path) -> None:
    renamed = write(tmp_path, a=Array([1, 2], INTEGER), left=LEFT).rename(tmp_path / "data.csv")
    assert read_table(renamed).columns == {"a": [1, 2], "left": ["no", "yes"]}


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        (
            Array([1, 2], DataType.int32()).cast(DataType.date32()),
            "a of rows.parquet has dates or times. Write them as numbers or strings, as its training had them, or "
            "leave the column out.",
        ),
        (
            Array([1, 2], INTEGER).cast(DataType.timestamp("us", tz="UTC")),
            "a of rows.parquet has dates or times. Write them as numbers or strings, as its training had them, or "
            "leave the column out.",
        ),
        (
            Array([1, 2], INTEGER).cast(DataType.duration("us")),
            "a of rows.parquet has dates or times. Write them as numbers or strings, as its training had them, or "
            "leave the column out.",
        ),
        (
            Array([b"x", b"y"], DataType.binary()),
            "a of rows.parquet has bytes. Write them as strings, as its training had them, or leave the column out.",
        ),
        (
            struct_array([Array([1, 2], INTEGER)], fields=[Field("x", INTEGER)]),
            "a of rows.parquet has lists or records. Write each of their values as a column, as its training had them, "
            "or leave the column out.",
        ),
        (
            Array([1.0, float("-inf")], FLOAT),
            "a of rows.parquet has an infinite number, which JSON has not. Write another number, or none.",
        ),
    ],
)
def test_values_that_json_has_not_are_refused(column: Array, sentence: str, tmp_path: Path) -> None:
    assert refused(write(tmp_path, a=column, left=LEFT)) == sentence


def test_one_column_is_a_table_but_no_row_is_none(tmp_path: Path) -> None:
    assert read_table(write(tmp_path, left=LEFT)).columns == {"left": ["no", "yes"]}
    empty = write(tmp_path, a=Array([], INTEGER), left=Array([], STRING))
    assert refused(empty) == "rows.parquet needs rows of features and a target."


def test_a_small_file_of_very_many_rows_is_refused(tmp_path: Path) -> None:
    many = Array([1] * 5_000_001, INTEGER)
    path = write(tmp_path, a=many, b=many)
    assert path.stat().st_size < 100_000
    assert refused(path) == (
        "rows.parquet has more than 5,000,000 rows. Some hundred rows that the model has not seen are enough."
    )


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, a=Array([1, 2], INTEGER), left=LEFT)
    content = path.read_bytes()
    path.write_bytes(content[:-9])
    assert refused(path) == "rows.parquet is cut short: a Parquet file ends as it begins. Copy it again."
    # In the middle, and in its description at the end, of which arro3 also speaks on its own.
    path.write_bytes(content[:30] + bytes(40) + content[70:])
    assert refused(path).startswith("rows.parquet is not a readable Parquet file: ")
    path.write_bytes(content[:-80] + bytes(40) + content[-40:])
    assert refused(path).startswith("rows.parquet is not a readable Parquet file: ")


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = Table.from_arrays([LEFT, LEFT], names=["left", "left"])
    write_parquet(table, tmp_path / "rows.parquet")
    sentence = "two columns of rows.parquet are called left; give each its own name."
    assert refused(tmp_path / "rows.parquet") == sentence


def test_without_its_library_a_parquet_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, a=Array([1, 2], INTEGER), left=LEFT)
    monkeypatch.setitem(sys.modules, "arro3", None)
    assert refused(path) == (
        "rows.parquet is a Parquet file, which needs arro3-io; install requirements/exporter.txt, or write it as CSV."
    )
