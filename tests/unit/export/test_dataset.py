from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas
import pytest
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from export.dataset import Dataset, Table, create_dataset, frame_table, select_features
from export.errors import ContractError
from export.table import RawTable
from service.contract import Feature

PATH = Path("data.csv")
# Knows nothing of its columns.
PLAIN = DecisionTreeClassifier().fit([[1.0]], ["yes"])
del PLAIN.n_features_in_


def typed(columns: dict[str, list[Any]], estimator: Any = PLAIN, *arguments: Any) -> Dataset:  # noqa: ANN401
    return create_dataset(PATH, RawTable(dict(columns)), estimator, *arguments)


def one_column(cells: list[Any], estimator: Any = PLAIN, *arguments: Any) -> tuple[Feature, list[Any]]:  # noqa: ANN401
    table = typed({"a": cells, "target": ["yes"] * len(cells)}, estimator, *arguments).table
    return table.features[0], [value for (value,) in table.rows]


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (["1.0", "-2.5", "1e3"], "number", [1.0, -2.5, 1000.0]),
        (["1", "-2", "+3"], "integer", [1, -2, 3]),
        (["1", "2.0"], "number", [1.0, 2.0]),
        (["True", "false", "TRUE"], "boolean", [True, False, True]),
        (["old", "1"], "string", ["old", "1"]),
        # Only Python takes this for a number.
        (["12_34", "10_00"], "string", ["12_34", "10_00"]),
        # As a number it would lose its zero.
        (["01067", "99998"], "string", ["01067", "99998"]),
        (["0.5", "-0.25", "0"], "number", [0.5, -0.25, 0.0]),
        (["9007199254740991", "-1"], "integer", [2**53 - 1, -1]),
        (["9007199254740992", "-1"], "number", [2.0**53, -1.0]),
        # A Parquet file has types of its own.
        ([True, False], "boolean", [True, False]),
        ([1, 2], "integer", [1, 2]),
        ([1.5, 2.0], "number", [1.5, 2.0]),
        (["Bern", "NA"], "string", ["Bern", "NA"]),
    ],
)
def test_a_column_has_the_type_of_its_cells(cells: list[Any], kind: Any, values: list[Any]) -> None:  # noqa: ANN401
    feature, found = one_column(cells)
    assert (feature, found) == (Feature("a", kind), values)
    assert list(map(type, found)) == list(map(type, values))


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (["1.5", "", "2"], "number", [1.5, None, 2.0]),
        (["1", "nan", "NA", "null", "2"], "integer", [1, None, None, None, 2]),
        (["True", "", "False"], "boolean", [True, None, False]),
        (["Bern", "", "Chur"], "string", ["Bern", None, "Chur"]),
        ([1.5, None], "number", [1.5, None]),
        ([True, None], "boolean", [True, None]),
        (["Bern", None], "string", ["Bern", None]),
        ([None, None], "number", [None, None]),
    ],
)
def test_an_empty_cell_is_a_missing_value(cells: list[Any], kind: Any, values: list[Any]) -> None:  # noqa: ANN401
    assert one_column(cells) == (Feature("a", kind, missing=True), values)


@pytest.mark.parametrize("gap", ["", "nan", "NaN", "NA", "N/A", "null", "None", " ", "<NA>", "#N/A"])
def test_a_gap_among_numbers_is_no_word(gap: str) -> None:
    assert one_column(["1", gap]) == (Feature("a", "integer", missing=True), [1, None])


def encoded(values: list[Any]) -> Any:  # noqa: ANN401
    """A model whose encoder was fitted on these values of a column `a`."""
    encoder = ColumnTransformer([("a", OneHotEncoder(handle_unknown="ignore"), ["a"])])
    frame = pandas.DataFrame({"a": pandas.Series(values, dtype=object)})
    return make_pipeline(encoder, LogisticRegression()).fit(frame, ["yes", "no"] * (len(values) // 2))


@pytest.mark.parametrize(
    ("fitted", "cells", "kind", "values"),
    [
        (["01067", "99998"], ["01067", "99998"], "string", ["01067", "99998"]),
        (["1", "2"], ["1", "2"], "string", ["1", "2"]),
        (["True", "False"], ["True", "False"], "string", ["True", "False"]),
        ([True, False], ["True", "False"], "boolean", [True, False]),
        ([True, False], ["1", "0"], "boolean", [True, False]),
        ([True, False], ["1.0", ""], "boolean", [True, None]),
        ([1, 2], ["1", "2"], "integer", [1, 2]),
        ([1, 2], ["01", "02"], "integer", [1, 2]),
        # Namibia, if the encoder knows it.
        (["NA", "CH"], ["NA", "CH"], "string", ["NA", "CH"]),
        (["CH", "DE", np.nan, np.nan], ["NA", "CH"], "string", [None, "CH"]),
        (["CH", "DE"], ["", "CH"], "string", [None, "CH"]),
        (["", "DE"], ["", "DE"], "string", ["", "DE"]),
    ],
)
def test_an_encoder_says_which_type_its_column_has(
    fitted: list[Any], cells: list[str], kind: str, values: list[Any]
) -> None:
    feature, found = one_column(cells, encoded(fitted))
    assert (feature.type, found) == (kind, values)
    assert list(map(type, found)) == list(map(type, values))


def test_types_are_told_on_the_command_line() -> None:
    assert one_column(["1", "02"], PLAIN, (), ("a",)) == (Feature("a", "string"), ["1", "02"])
    assert one_column(["True", "False"], PLAIN, (), ("a",)) == (Feature("a", "string"), ["True", "False"])
    assert one_column(["1", "2"], PLAIN, (), (), ("a",)) == (Feature("a", "number"), [1, 2])


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        (
            ["1", "2", "about 3", "4"],
            "row 4 of data.csv has a 'about 3', and most cells of this column are numbers. Write it as a number, such "
            "as 1659.5, or name the column with --string-columns a.",
        ),
        (
            ["1", "9007199254740993"],
            "row 3 of data.csv has a 9007199254740993: no 64-bit float holds this number, so it would be taken for "
            "9007199254740992. An identifier is no feature: leave it out, or train with it as a string and say "
            "--string-columns a.",
        ),
    ],
)
def test_a_column_that_would_be_taken_for_another_one_is_refused(cells: list[str], sentence: str) -> None:
    with pytest.raises(ContractError) as refused:
        one_column(cells)
    assert str(refused.value) == sentence


THREE = {"a": ["1", "4"], "b": ["2", "5"], "c": ["3", "6"]}


def test_the_target_is_the_last_column_or_the_one_that_is_named() -> None:
    assert typed(THREE).targets == {"c": ["3", "6"]}
    table, targets = typed(THREE, PLAIN, ("b",))
    assert targets == {"b": ["2", "5"]}
    assert table == Table([Feature("a", "integer"), Feature("c", "integer")], [[1, 3], [4, 6]])


NAMED = pandas.DataFrame({"b": [1.0, 2.0, 3.0]})
UNNAMED = [[1.0], [2.0], [4.0]]


@pytest.mark.parametrize(
    ("estimator", "columns", "targets"),
    [
        (LinearRegression().fit(NAMED, [1, 2, 4]), THREE, ["c"]),
        # The only column that is no feature, wherever it is.
        (LinearRegression().fit(NAMED, [1, 2, 4]), {"a": ["1", "4"], "b": ["2", "5"]}, ["a"]),
        (LinearRegression().fit(NAMED, [[1, 2], [2, 3], [4, 4]]), THREE, ["a", "c"]),
        (LinearRegression().fit(UNNAMED, [[1, 2], [2, 3], [4, 4]]), THREE, ["b", "c"]),
        # An index is no answer.
        (LinearRegression().fit(NAMED, [1, 2, 4]), {"Unnamed: 0": ["0", "1"], **THREE}, ["c"]),
        # What needs no answers has none.
        (KMeans(1, n_init=1).fit(NAMED), {"b": ["2", "5"]}, []),
        (IsolationForest(n_estimators=2).fit([[1.0, 2.0, 3.0]]), THREE, []),
        (IsolationForest(n_estimators=2).fit([[1.0, 2.0]]), THREE, ["c"]),
    ],
)
def test_the_right_answers_are_the_columns_that_are_no_features(
    estimator: Any,  # noqa: ANN401
    columns: dict[str, list[Any]],
    targets: list[str],
) -> None:
    if targets:
        assert list(typed(columns, estimator).targets) == targets
    else:
        assert typed(columns, estimator).targets == {}


@pytest.mark.parametrize(
    ("estimator", "arguments", "sentence"),
    [
        (PLAIN, (("d",),), "data.csv has no column d; it has a, b, c."),
        (PLAIN, ((), ("d",)), "data.csv has no column d; it has a, b, c."),
        (
            LinearRegression().fit(NAMED, [1, 2, 4]),
            (("b",),),
            "b is a feature of the model, so it cannot be the target; name another --target.",
        ),
        (
            LinearRegression().fit(NAMED.rename(columns={"b": "c"}), [1, 2, 4]),
            (),
            "the last column of data.csv, c, is a feature of the model; name the right answers with --target.",
        ),
        (
            LinearRegression().fit(NAMED, [[1, 2, 3]] * 3),
            (),
            "LinearRegression gives 3 answers to each row, and data.csv has 2 columns beside the features. Add the "
            "right answers, one column for each, or name them with --target A,B.",
        ),
        (
            LinearRegression().fit(NAMED.rename(columns={"b": "d"}), [1, 2, 4]),
            (),
            "the model takes d, but the data have no such column.",
        ),
        (
            LinearRegression().fit([[1.0, 2.0, 3.0]], [1]),
            (),
            "the model takes 3 features, but the data have 2 beside their target: a, b.",
        ),
    ],
)
def test_columns_that_do_not_fit_the_model_are_refused(
    estimator: Any,  # noqa: ANN401
    arguments: tuple[Any, ...],
    sentence: str,
) -> None:
    with pytest.raises(ContractError) as refused:
        typed(THREE, estimator, *arguments)
    assert str(refused.value) == sentence


def test_columns_that_no_model_asked_for_are_left_out() -> None:
    named = SimpleNamespace(feature_names_in_=np.array(["c", "b"], dtype=object))
    assert select_features(named, ["a", "b", "c"]) == ["c", "b"]
    assert select_features(SimpleNamespace(n_features_in_=3), ["a", "b", "c"]) == ["a", "b", "c"]
    assert select_features(SimpleNamespace(), ["a", "b", "c"]) == ["a", "b", "c"]


def test_an_index_that_pandas_wrote_is_no_feature() -> None:
    columns = ["Unnamed: 0", "a", "b"]
    assert select_features(SimpleNamespace(n_features_in_=2), columns) == ["a", "b"]
    # One that the model was trained with, as pandas calls it when it reads the file, is one.
    assert select_features(SimpleNamespace(n_features_in_=3), columns) == columns


def test_a_data_frame_has_the_types_of_its_columns() -> None:
    frame = pandas.DataFrame(
        {
            "age": [41, 7],
            "income": [1.5, np.nan],
            "member": [True, False],
            "city": ["Bern", None],
            "size": pandas.Categorical(["S", "L"]),
            "answers": pandas.array([True, None], dtype="boolean"),
            "rooms": pandas.array([3, None], dtype="Int64"),
            "codes": pandas.Series([1, "x"], dtype=object).map({1: 5, "x": 6}),
            "mixed": pandas.Series([True, None], dtype=object),
        }
    )
    assert frame_table(frame) == Table(
        [
            Feature("age", "integer"),
            Feature("income", "number", missing=True),
            Feature("member", "boolean"),
            Feature("city", "string", missing=True),
            Feature("size", "string"),
            Feature("answers", "boolean", missing=True),
            Feature("rooms", "integer", missing=True),
            Feature("codes", "integer"),
            Feature("mixed", "boolean", missing=True),
        ],
        [[41, 1.5, True, "Bern", "S", True, 3, 5, True], [7, None, False, None, "L", None, None, 6, None]],
    )


def test_a_data_frame_of_other_things_is_refused() -> None:
    frame = pandas.DataFrame({"day": pandas.to_datetime(["2026-01-01", "2026-01-02"])})
    with pytest.raises(ContractError) as refused:
        frame_table(frame)
    assert str(refused.value) == (
        "day has values of the type Timestamp; a feature is a number, a boolean or a string. Convert it before the "
        "model is trained."
    )
