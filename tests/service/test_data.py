from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from service.data import Table, in_order_of, read


def test_columns_that_no_model_asked_for_are_left_out() -> None:
    table = Table(["a", "b", "c"], [[1.0, "x", 3.0], [4.0, "y", 6.0]], ["number", "word", "number"])
    named = SimpleNamespace(feature_names_in_=np.array(["c", "b"], dtype=object))
    assert in_order_of(named, table) == Table(["c", "b"], [[3.0, "x"], [6.0, "y"]], ["number", "word"])
    assert in_order_of(SimpleNamespace(n_features_in_=3), table) is table
    assert in_order_of(SimpleNamespace(), table) is table


def table_of(text: str, folder: Path, target: str = "", words: tuple[str, ...] = ()) -> tuple[Table, list[str]]:
    (folder / "data.csv").write_text(text, newline="")
    return read(folder / "data.csv", target, words)


def test_a_column_is_one_of_numbers_where_each_cell_is_one(tmp_path: Path) -> None:
    text = "a,b,c,d,target\n1,1e3,nan,007,yes\n-2.5,.5,1,x,no\n"
    assert table_of(text, tmp_path) == (
        Table(
            ["a", "b", "c", "d"],
            [[1.0, 1000.0, "nan", "007"], [-2.5, 0.5, "1", "x"]],
            ["number", "number", "word", "word"],
        ),
        ["yes", "no"],
    )


def test_what_only_python_takes_for_a_number_is_a_word(tmp_path: Path) -> None:
    table, _ = table_of("id,size,target\n12_34,1,yes\n10_00,2,no\n", tmp_path)
    assert table.kinds == ["word", "number"]


def test_a_column_is_one_of_words_where_that_is_said(tmp_path: Path) -> None:
    table, _ = table_of("zip,size,target\n01067,1,yes\n99998,2,no\n", tmp_path, words=("zip",))
    assert table == Table(["zip", "size"], [["01067", 1.0], ["99998", 2.0]], ["word", "number"])


def test_the_target_is_the_last_column_unless_told(tmp_path: Path) -> None:
    text = "a,b,c\n1,2,3\n4,5,6\n"
    assert table_of(text, tmp_path)[1] == ["3", "6"]
    table, targets = table_of(text, tmp_path, target="b")
    assert (table.features, table.rows, targets) == (["a", "c"], [[1.0, 3.0], [4.0, 6.0]], ["2", "5"])


def test_a_table_is_read_as_spreadsheets_write_it(tmp_path: Path) -> None:
    # A byte order mark, Windows' line ends, a comma and a line end within a cell, an empty cell of words, a blank line.
    text = '\ufeffnote,size,target\r\n"a, or\r\nb",1,yes\r\n\r\n,2,no\r\n'
    (tmp_path / "data.csv").write_bytes(text.encode())
    table, targets = read(tmp_path / "data.csv", "", ())
    assert table == Table(["note", "size"], [["a, or\r\nb", 1.0], ["", 2.0]], ["word", "number"])
    assert targets == ["yes", "no"]
