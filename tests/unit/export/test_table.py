from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.errors import ContractError
from export.parquet import Cell
from export.table import read_table


def read(
    content: str | bytes, folder: Path, *, decimal: str = "", encoding: str = "", string_columns: Sequence[str] = ()
) -> dict[str, list[Cell]]:
    (folder / "data.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    options = {"decimal": decimal, "encoding": encoding}
    return read_table(folder / "data.csv", **options, find_strings=lambda _: string_columns).columns


def refused(content: str | bytes, folder: Path, *, decimal: str = "", encoding: str = "") -> str:
    with pytest.raises(ContractError) as error:
        read(content, folder, decimal=decimal, encoding=encoding)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        pytest.param("a,b\n1,x\n2.5,y\n", {"a": ["1", "2.5"], "b": ["x", "y"]}, id="commas"),
        pytest.param("a;b\n1;x\n2,5;y\n", {"a": ["1", "2.5"], "b": ["x", "y"]}, id="semicolons"),
        pytest.param("a\tb\n1\tx\n2,5\ty\n", {"a": ["1", "2.5"], "b": ["x", "y"]}, id="tabs"),
        pytest.param("a|b\n1|x\n2,5|y\n", {"a": ["1", "2.5"], "b": ["x", "y"]}, id="vertical bars"),
        pytest.param("a;b\n1;x, y\n2;x, y, z\n", {"a": ["1", "2"], "b": ["x, y", "x, y, z"]}, id="commas in text"),
        pytest.param(
            "a, in m;b;c\n1,5;x;1\n2,5;y;1\n",
            {"a, in m": ["1.5", "2.5"], "b": ["x", "y"], "c": ["1", "1"]},
            id="a comma in the header and in every row, but fewer cells",
        ),
        pytest.param(
            "a, in m, out;b\n1;x\n", {"a, in m, out": ["1"], "b": ["x"]}, id="more commas in the header alone"
        ),
        pytest.param(
            'a;"b;c"\n"x\n""y"";z";1\n', {"a": ['x\n"y";z'], "b;c": ["1"]}, id="quotes, and all else between them"
        ),
        pytest.param('a,b\n5" pipe,1\n', {"a": ['5" pipe'], "b": ["1"]}, id="a quote in the middle is a character"),
        pytest.param("a,b\r\n1,x\r\n\r\n2,y\r\n\r\n", {"a": ["1", "2"], "b": ["x", "y"]}, id="Windows, blank lines"),
        pytest.param("a,b\r1,x\r2,y\r", {"a": ["1", "2"], "b": ["x", "y"]}, id="an old Macintosh"),
        pytest.param("a;b;;\n1;x;;\n;y;;\n;;;\n \n", {"a": ["1", ""], "b": ["x", "y"]}, id="empty cells at the ends"),
        pytest.param("a,b\n,\n1,x\n", {"a": ["", "1"], "b": ["", "x"]}, id="an empty row in the middle stays"),
        pytest.param(",a,b\n0,1,x\n", {"Unnamed: 0": ["0"], "a": ["1"], "b": ["x"]}, id="an index"),
        pytest.param("a,,b\n0,1,x\n", {"a": ["0"], "Unnamed: 1": ["1"], "b": ["x"]}, id="a column without a name"),
        pytest.param(" a, b\n x, y\n", {" a": [" x"], " b": [" y"]}, id="spaces stay"),
        pytest.param("#a,b\n#1,x\n", {"#a": ["#1"], "b": ["x"]}, id="no comments"),
    ],
)
def test_rows_are_read_as_they_are_written(text: str, columns: dict[str, list[str]], tmp_path: Path) -> None:
    assert read(text, tmp_path) == columns


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["1.5", "2", ""], ["1.5", "2", ""]),
        (["1,5", "2", ""], ["1.5", "2", ""]),
        (["-1,5", "+2,", ",5", "1,5e-07", "NA"], ["-1.5", "+2.", ".5", "1.5e-07", "NA"]),
        (["1.659,50", "12", "1.234.567"], ["1659.50", "12", "1234567"]),
        (["1,659.50", "12", "1,234,567"], ["1659.50", "12", "1234567"]),
        (["1 659,5", "-12 000"], ["1659.5", "-12000"]),
        (["1\u00a0659", "12"], ["1659", "12"]),
        (["1\u202f659", "12"], ["1659", "12"]),
        (["1'659.5", "12"], ["1659.5", "12"]),
        (["1\u2019659", "12"], ["1659", "12"]),
        # These are read in one way alone: no group of thousands begins with a zero, or has four digits.
        (["0,123", "3"], ["0.123", "3"]),
        (["1234,567", "3"], ["1234.567", "3"]),
        (["0.123", "3"], ["0.123", "3"]),
        ([" 3,5 ", "4"], ["3.5", "4"]),
    ],
)
def test_numbers_come_out_as_python_writes_them(cells: list[str], numbers: list[str], tmp_path: Path) -> None:
    text = "".join(f"{cell};x\n" for cell in ["a", *cells])
    assert read(text.replace("a;x", "a;b", 1), tmp_path)["a"] == numbers


@pytest.mark.parametrize(
    "cells",
    [
        ["12 %", "13 %"],
        ["€ 5", "€ 6"],
        ["1_659", "12"],
        ["1,5", "2.5"],
        ["1'659", "1 659"],
        ["28.11.2026", "29.11.2026"],
        ["1,23,456", "2"],
        ["079 123 456", "2"],
        ["1,5", "many"],
        ["NA", "na"],
        ["", " "],
        ["01067", "80331"],
    ],
)
def test_all_else_stays_as_it_is(cells: list[str], tmp_path: Path) -> None:
    text = "".join(f"{cell};x\n" for cell in ["a", *cells])
    assert read(text.replace("a;x", "a;b", 1), tmp_path)["a"] == cells


def test_one_column_says_what_the_numbers_of_another_are(tmp_path: Path) -> None:
    assert read("a;b\n1.659;1\n2.000;2\n", tmp_path, decimal=".")["a"] == ["1.659", "2.000"]
    assert read("a;b\n1.659;1\n2.000;2\n", tmp_path, decimal=",")["a"] == ["1659", "2000"]
    assert read("a;b\n1.659;1,5\n2.000;2\n", tmp_path)["a"] == ["1659", "2000"]
    assert read("a;b\n1.659;1.5\n2.000;2\n", tmp_path)["a"] == ["1.659", "2.000"]
    assert read('a,b\n"1,659",1.5\n"2,000",2\n', tmp_path)["a"] == ["1659", "2000"]
    # Nobody writes thousands with a point, and commas between cells.
    assert read("a,b\n1.659,1\n2.000,2\n", tmp_path)["a"] == ["1.659", "2.000"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            'district 7,b\n566,1\n"1,659",2\n',
            "row 3 of data.csv has 1,659 in district 7. Say --decimal . if it is 1659, --decimal , if it is 1.659, or "
            "--string-columns 'district 7' if it is text.",
        ),
        (
            "a;b\n566;1\n1,659;2\n",
            "row 3 of data.csv has 1,659 in a. Say --decimal . if it is 1659, --decimal , if it is 1.659, or "
            "--string-columns a if it is text.",
        ),
        (
            "a;b\n566;1\n1.659;2\n",
            "row 3 of data.csv has 1.659 in a. Say --decimal . if it is 1.659, --decimal , if it is 1659, or "
            "--string-columns a if it is text.",
        ),
        (
            "a\tb\n566\t1\n1.659\t2\n",
            "row 3 of data.csv has 1.659 in a. Say --decimal . if it is 1.659, --decimal , if it is 1659, or "
            "--string-columns a if it is text.",
        ),
        # Between commas it may well be a list.
        (
            'a,b\n1,1\n"1,2",2\n',
            "row 3 of data.csv has 1,2 in a. Say --decimal , if it is 1.2, or --string-columns a if it is text.",
        ),
        (
            "a;b\n1,659;28.11\n2,5;30.11\n",
            "row 3 of data.csv has 2,5 in a, but row 2 of data.csv has 28.11 in b. Say with --decimal which is the "
            "decimal mark, and with --string-columns which column is text.",
        ),
    ],
)
def test_a_number_that_may_be_another_one_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    assert refused(text, tmp_path) == sentence


def test_a_number_must_fit_the_decimal_mark_that_is_given(tmp_path: Path) -> None:
    text = "a;b\n1,5;28.11\n2,5;30.11\n"
    assert refused(text, tmp_path, decimal=",") == (
        "row 2 of data.csv has 28.11 in b, which does not fit --decimal ,. Write it so, or name the column with "
        "--string-columns b if it is text."
    )
    columns = {"a": ["1.5", "2.5"], "b": ["28.11", "30.11"]}
    assert read(text, tmp_path, decimal=",", string_columns=["b"]) == columns
    assert read(text, tmp_path, string_columns=["b"]) == columns


ROWS = "größe;ort\n1,5;Zürich\n2;Bern\n"
SIZES = {"größe": ["1.5", "2"], "ort": ["Zürich", "Bern"]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252"])
def test_an_encoding_is_found(encoding: str, tmp_path: Path) -> None:
    mark = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}.get(encoding, b"")
    assert read(mark + ROWS.encode(encoding), tmp_path) == SIZES


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16-le", "utf-32", "cp850", "mac-roman"])
def test_an_encoding_is_taken_as_it_is_named(encoding: str, tmp_path: Path) -> None:
    assert read(ROWS.encode(encoding), tmp_path, encoding=encoding) == SIZES


@pytest.mark.parametrize(
    ("content", "encoding", "sentence"),
    [
        # Each of these would be other letters, and another category, in the encoding that is most frequent.
        pytest.param("a,b\n1,Plzeň\n".encode("cp1250"), "", "UTF-8: line 2 has a byte that does not fit", id="Czech"),
        pytest.param(
            "a,b\n1,Москва\n".encode("cp1251"), "", "UTF-8: line 2 has a byte that does not fit", id="Russian"
        ),
        # All of its bytes are letters of Western Europe too, but three in a row.
        pytest.param("a,b\n1,йод\n".encode("cp1251"), "", "UTF-8: line 2 has a byte that does not fit", id="iodine"),
        pytest.param(
            "a,b\n1,東京\n".encode("shift-jis"), "", "UTF-8: line 2 has a byte that does not fit", id="Japanese"
        ),
        pytest.param("a,b\n1,Zürich\n".encode("cp850"), "", "UTF-8: line 2 has a byte that does not fit", id="DOS"),
        pytest.param("a,b\n1,Zürich\n".encode("mac-roman"), "", "UTF-8: line 2 has a byte that does not fit", id="Mac"),
        pytest.param(ROWS.encode("utf-16")[:-1], "", "UTF-16: line 3 has a byte that does not fit", id="cut short"),
        pytest.param(ROWS.encode("latin-1"), "ascii", "ascii: line 1 has a byte that does not fit", id="not as named"),
    ],
)
def test_an_encoding_that_is_not_certain_is_refused(
    content: bytes, encoding: str, sentence: str, tmp_path: Path
) -> None:
    assert refused(content, tmp_path, encoding=encoding) == (
        f"data.csv is not in {sentence}. Save it as UTF-8, or name its encoding, such as --encoding cp1252."
    )


def test_utf_16_without_its_mark_is_refused(tmp_path: Path) -> None:
    assert refused(ROWS.encode("utf-16-le"), tmp_path) == (
        "data.csv is not in UTF-8: it has zero bytes, as UTF-16 does. Save it as UTF-8, or name its encoding, such as "
        "--encoding utf-16-le."
    )


@pytest.mark.parametrize(
    ("content", "options", "sentence"),
    [
        (ROWS, {"encoding": "latin-99"}, "latin-99 is not an encoding of Python, such as cp1252 or utf-16-le."),
        (ROWS, {"encoding": "base64"}, "base64 is not an encoding of Python, such as cp1252 or utf-16-le."),
        (
            b"PK\x03\x04\x14",
            {},
            "data.csv is an Excel workbook or another zip archive. Save the table as CSV or Parquet.",
        ),
        (b"\x1f\x8b\x08", {}, "data.csv is compressed by gzip. Save the table as CSV or Parquet."),
        ("a,b,c\n1,2,3\n1,2\n", {}, "row 3 of data.csv has 2 cells, its header 3."),
        ("a;b\n1,5;2\n1,5;2;3\n", {}, "row 3 of data.csv has 3 cells, its header 2."),
        ('"a";"b"\n1;2;3\n', {}, "row 2 of data.csv has 3 cells, its header 2."),
        # R writes no name for its index, and pandas would shift all names by one.
        ("a,b\n1,2,3\n2,3,4\n", {}, "row 2 of data.csv has 3 cells, its header 2."),
        ("a,b,a\n1,2,3\n", {}, "two columns of data.csv are called a; give each its own name."),
        (",Unnamed: 0\n1,2\n", {}, "two columns of data.csv are called Unnamed: 0; give each its own name."),
        (
            "a,b;c\n1,2;3\n",
            {},
            "the cells of data.csv may end at each comma or at each semicolon. Rename the column that has one of them "
            "in its name.",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(
    content: str | bytes, options: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    assert refused(content, tmp_path, **options) == sentence


@pytest.mark.parametrize("text", ["", "\n", "a,b\n", "a\n", "a;b\n;\n\n"])
def test_a_file_without_columns_or_rows_is_refused(text: str, tmp_path: Path) -> None:
    assert refused(text, tmp_path) == (
        "data.csv needs a line of column names, and rows of features and a target below it."
    )


@pytest.mark.parametrize(
    ("text", "name", "cells"),
    [
        ("a\n1\n", "a", ["1"]),
        ("a b\n1 2\n", "a b", ["1 2"]),
        ("a,\n1,\n", "a", ["1"]),
        ('a\n"x, y"\n""\n"z\nz"\n', "a", ["x, y", "", "z\nz"]),
        ("a\nx; y\n", "a", ["x; y"]),
    ],
)
def test_one_column_is_a_table(text: str, name: str, cells: list[str], tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(text, encoding="utf-8")
    assert read_table(tmp_path / "data.csv").columns == {name: cells}


@pytest.mark.parametrize(
    ("text", "row"), [('"a,b\n1,2\n', 1), ('a,b\n1,2\n"3,4\n5,6\n', 3), ('a,b\n1,2\n"3"x,4\n', 3), ('a,b\n1,"2" \n', 2)]
)
def test_a_quote_that_does_not_end_is_refused_with_its_row(text: str, row: int, tmp_path: Path) -> None:
    assert refused(text, tmp_path) == (
        f"row {row} of data.csv has a quote that does not end, or text behind its end. Write a quote within a cell "
        'twice, and the cell between quotes: "5"" pipe".'
    )


def test_a_cell_without_an_end_is_refused(tmp_path: Path) -> None:
    sentence = "data.csv is not a CSV file: field larger than field limit (131072)."
    assert refused("a,b\n1," + "x" * 200_000, tmp_path) == sentence


# All but a lone \r, which the csv module of Python 3.11 writes without quotes. A name that has a separator of another
# file may be refused.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff\r"), max_size=8)
NAMES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff\r,;|\t"), min_size=1), min_size=2, unique=True
)
SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(
    data=st.data(),
    names=NAMES,
    separator=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
@SETTINGS
def test_text_comes_back_as_the_csv_module_wrote_it(
    data: st.DataObject,
    names: list[str],
    separator: str,
    quoting: Literal[0, 1, 2],
    line_end: str,
    encoding: str,
    tmp_path: Path,
) -> None:
    row = st.tuples(*[TEXT for _ in names[1:]], TEXT.map(lambda text: f"{text}x"))
    rows = data.draw(st.lists(row, min_size=1, max_size=5))
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=separator, quoting=quoting, lineterminator=line_end)
    writer.writerows([names, *rows])
    read_back = read(file.getvalue().encode(encoding), tmp_path, string_columns=names)
    assert list(read_back) == names
    assert list(zip(*read_back.values(), strict=True)) == rows


NUMBERS = st.lists(
    st.one_of(
        st.integers(-(10**6), 10**6).map(float),
        st.floats(allow_nan=False, allow_infinity=False),
        st.integers(0, 10**7).map(lambda thousandths: thousandths / 1000),
        st.none(),
    ),
    min_size=1,
    max_size=6,
)


@given(
    columns=st.lists(NUMBERS, min_size=1, max_size=3),
    separator=st.sampled_from(",;\t|"),
    decimal=st.sampled_from(".,"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    index=st.booleans(),
)
@SETTINGS
def test_numbers_come_back_as_pandas_wrote_them_or_are_refused(
    columns: list[list[float | None]],
    separator: str,
    decimal: str,
    quoting: Literal[0, 1, 2],
    index: bool,
    tmp_path: Path,
) -> None:
    table = pandas.DataFrame({f"n{place}": pandas.Series(cells, dtype=float) for place, cells in enumerate(columns)})
    table["target"] = "x"
    text = table.to_csv(sep=separator, decimal=decimal, quoting=quoting, index=index)
    expected = [[cell for cell in table[name] if cell == cell] for name in table if name != "target"]

    def numbers(read_back: dict[str, list[Cell]]) -> list[list[float]]:
        names = [name for name in read_back if name.startswith("n")]
        return [[float(str(cell)) for cell in read_back[name] if cell != ""] for name in names]

    assert numbers(read(text, tmp_path, decimal=decimal)) == expected
    try:
        found = read(text, tmp_path)
    except ContractError as error:
        assert "--decimal" in str(error)
    else:
        assert numbers(found) == expected


@given(
    cells=st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=6),
    places=st.sampled_from([0, 2]),
    marks=st.sampled_from([",.", ".,", " ,", "'.", "\u00a0,", "\u202f,", "\u2019."]),
    separator=st.sampled_from(",;\t|"),
)
@SETTINGS
def test_thousands_come_back_or_are_refused(
    cells: list[int], places: int, marks: str, separator: str, tmp_path: Path
) -> None:
    decimal = marks[1]
    expected = [cell / 10**places for cell in cells]
    written = [f"{cell:,.{places}f}".translate(str.maketrans(",.", marks)) for cell in expected]
    file = io.StringIO()
    csv.writer(file, delimiter=separator).writerows([["a", "b"], *([cell, "x"] for cell in written)])
    read_back = read(file.getvalue(), tmp_path, decimal=decimal)["a"]
    assert [float(str(cell)) for cell in read_back] == expected
    # Between commas a point is a decimal mark without a doubt.
    if (separator, marks) == (",", ".,"):
        return
    try:
        found = read(file.getvalue(), tmp_path)["a"]
    except ContractError as error:
        assert "--decimal" in str(error)
    else:
        assert [float(str(cell)) for cell in found] == expected
