from __future__ import annotations

import codecs
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from export.dataset import Table, read_csv, select_features
from export.errors import ContractError


def test_columns_that_no_model_asked_for_are_left_out() -> None:
    table = Table(["a", "b", "c"], [[1.0, "x", 3.0], [4.0, "y", 6.0]], ["number", "string", "number"])
    named = SimpleNamespace(feature_names_in_=np.array(["c", "b"], dtype=object))
    assert select_features(named, table) == Table(["c", "b"], [[3.0, "x"], [6.0, "y"]], ["number", "string"])
    assert select_features(SimpleNamespace(n_features_in_=3), table) is table
    assert select_features(SimpleNamespace(), table) is table


def table_of(text: str, folder: Path, target: str = "", words: tuple[str, ...] = ()) -> tuple[Table, list[str]]:
    (folder / "data.csv").write_text(text, newline="")
    return read_csv(folder / "data.csv", target, words)


def test_a_column_is_one_of_numbers_where_each_cell_is_one(tmp_path: Path) -> None:
    text = "a,b,c,d,target\n1,1e3,old,007,yes\n-2.5,.5,1,x,no\n"
    assert table_of(text, tmp_path) == (
        Table(
            ["a", "b", "c", "d"],
            [[1.0, 1000.0, "old", "007"], [-2.5, 0.5, "1", "x"]],
            ["number", "number", "string", "string"],
        ),
        ["yes", "no"],
    )


def test_what_only_python_takes_for_a_number_is_a_word(tmp_path: Path) -> None:
    table, _ = table_of("id,size,target\n12_34,1,yes\n10_00,2,no\n", tmp_path)
    assert table.kinds == ["string", "number"]


def test_a_column_is_one_of_words_where_that_is_said(tmp_path: Path) -> None:
    table, _ = table_of("zip,size,target\n01067,1,yes\n99998,2,no\n", tmp_path, words=("zip",))
    assert table == Table(["zip", "size"], [["01067", 1.0], ["99998", 2.0]], ["string", "number"])


def test_a_column_of_booleans_is_refused_unless_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("member,age,target\nTrue,1,a\nFalse,2,b\n")
    with pytest.raises(ContractError) as refused:
        read_csv(path, "", [])
    assert str(refused.value) == (
        "member has only False and True. Train the model with 1 and 0 and write these, or name the column with "
        "--string-columns member if it was trained with these words."
    )
    assert read_csv(path, "", ["member"])[0].rows == [["True", 1.0], ["False", 2.0]]


def test_the_target_is_the_last_column_unless_told(tmp_path: Path) -> None:
    text = "a,b,c\n1,2,3\n4,5,6\n"
    assert table_of(text, tmp_path)[1] == ["3", "6"]
    table, targets = table_of(text, tmp_path, target="b")
    assert (table.features, table.rows, targets) == (["a", "c"], [[1.0, 3.0], [4.0, 6.0]], ["2", "5"])


def test_a_table_is_read_as_spreadsheets_write_it(tmp_path: Path) -> None:
    # A byte order mark, Windows' line ends, a comma and a line end within a cell, an empty cell of words, a blank line.
    text = '\ufeffnote,size,target\r\n"a, or\r\nb",1,yes\r\n\r\n,2,no\r\n'
    (tmp_path / "data.csv").write_bytes(text.encode())
    table, targets = read_csv(tmp_path / "data.csv", "", ())
    assert table == Table(["note", "size"], [["a, or\r\nb", 1.0], ["", 2.0]], ["string", "number"])
    assert targets == ["yes", "no"]


ROWS = "größe,target\n1,ja\n2,nein\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_file_of_unicode_is_read_by_its_mark(encoding: str, tmp_path: Path) -> None:
    mark = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}.get(encoding, b"")
    (tmp_path / "data.csv").write_bytes(mark + ROWS.encode(encoding))
    assert read_csv(tmp_path / "data.csv", "", ()) == (Table(["größe"], [[1.0], [2.0]], ["number"]), ["ja", "nein"])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (ROWS.encode("latin-1"), "line 1 has a byte that is not UTF-8"),
        ("a,target\n1,ja\n2,größer\n".encode("latin-1"), "line 3 has a byte that is not UTF-8"),
        (ROWS.encode("utf-16")[:-1], "line "),
        ("a,target\n1,ja\n".encode("utf-16-le"), "it has zero bytes, as UTF-16 does"),
    ],
    ids=["Latin-1", "Latin-1 in line 3", "UTF-16 cut short", "UTF-16 without its mark"],
)
def test_another_encoding_is_said_with_the_way_out(content: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes(content)
    with pytest.raises(ContractError) as refused:
        read_csv(tmp_path / "data.csv", "", ())
    assert str(refused.value).startswith(f"data.csv is not in UTF-8: {why}")
    assert str(refused.value).endswith(". Save it as UTF-8; from Latin-1, iconv -f latin1 -t utf-8 does so.")


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolon"), ("\t", "tab")])
def test_another_separator_is_said(separator: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=f"data.csv separates its columns with a {name}; write it with commas"):
        table_of(f"a{separator}target\n1,5{separator}yes\n", tmp_path)


def test_an_index_that_pandas_wrote_is_no_feature(tmp_path: Path) -> None:
    table, targets = table_of(",a,b,target\n0,1,2,yes\n1,3,4,no\n", tmp_path)
    assert (table.features, targets) == (["Unnamed: 0", "a", "b"], ["yes", "no"])
    without = Table(["a", "b"], [[1.0, 2.0], [3.0, 4.0]], ["number", "number"])
    assert select_features(SimpleNamespace(n_features_in_=2), table) == without
    assert select_features(SimpleNamespace(feature_names_in_=np.array(["a", "b"], dtype=object)), table) == without
    # One that the model was trained with, as pandas calls it when it reads the file, is one.
    assert select_features(SimpleNamespace(n_features_in_=3), table) is table
    named = SimpleNamespace(feature_names_in_=np.array(["Unnamed: 0", "a", "b"], dtype=object))
    assert select_features(named, table) == table


def test_a_last_column_without_a_name_is_no_target_by_default(tmp_path: Path) -> None:
    text = "a,target,\n1,yes,\n2,no,\n"
    with pytest.raises(ContractError, match=r"the last column of data\.csv has no name; name the right answers with"):
        table_of(text, tmp_path)
    assert table_of(text, tmp_path, target="target")[1] == ["yes", "no"]
