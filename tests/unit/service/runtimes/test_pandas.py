from __future__ import annotations

import math
import pickle

import pytest

from service.contract import Feature, FeatureType, Interface, Label, Row
from service.runtimes.pandas import DataFramePredictor


def frame_types(features: list[Feature], rows: list[Row]) -> dict[str, tuple[str, list[object]]]:
    """The type and the values of each column that a model gets."""
    predictor = DataFramePredictor(pickle.dumps(None), Interface("regression", features))
    frame = predictor.to_input(rows)
    return {name: (str(frame[name].dtype), frame[name].tolist()) for name in frame.columns}


@pytest.mark.parametrize(
    ("kind", "values", "sent", "dtype", "gappy_dtype"),
    [
        ("number", [], 1.5, "float64", "float64"),
        # A request's numbers are floats. Integers become floats in a column with gaps, as pandas reads them.
        ("integer", [], 5.0, "int64", "float64"),
        ("boolean", [], True, "bool", "object"),
        ("string", [], "a", "str", "str"),
        ("category", ["Bern"], "Bern", "str", "str"),
        ("category", [1, 2], 2.0, "int64", "float64"),
        ("category", [0.5, 2], 2.0, "float64", "float64"),
    ],
)
def test_a_column_has_the_type_that_pandas_reads_it_with(
    kind: FeatureType, values: list[Label], sent: float | str, dtype: str, gappy_dtype: str
) -> None:
    features = [Feature("a", kind, values), Feature("b", kind, values, missing=True)]
    types = frame_types(features, [[sent, sent], [sent, None]])
    assert types["a"] == (dtype, [sent, sent])
    found, (value, gap) = types["b"]
    assert (found, value) == (gappy_dtype, sent)
    assert isinstance(gap, float)
    assert math.isnan(gap)


def test_a_column_of_gaps_alone_is_a_column() -> None:
    features = [Feature(kind, kind, missing=True) for kind in ("number", "integer", "boolean", "string")]
    types = frame_types(features, [[None] * 4])
    assert {name: dtype for name, (dtype, _) in types.items()} == {
        "number": "float64",
        "integer": "float64",
        "boolean": "object",
        "string": "str",
    }


def test_columns_stand_in_the_models_order() -> None:
    features = [Feature("b", "number"), Feature("a", "string")]
    assert frame_types(features, [[1.0, "x"], [2.0, "y"]]) == {
        "b": ("float64", [1.0, 2.0]),
        "a": ("str", ["x", "y"]),
    }
    assert list(frame_types(features, [[1.0, "x"]])) == ["b", "a"]
