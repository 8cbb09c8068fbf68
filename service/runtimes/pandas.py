"""The runtime `pandas`: the runtime `sklearn` for a model that takes named columns, or strings among the numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas

from service.contract import Contract, Feature, Row
from service.runtimes.sklearn import SklearnPredictor, require_same_versions

# As pandas reads such a column from a file: one of booleans or integers has another type if a value is missing.
TYPES = {"number": "float64", "integer": "int64", "boolean": "bool", "string": "object"}
TYPES_WITH_GAPS = {"number": "float64", "integer": "float64", "boolean": "object", "string": "object"}


class DataFramePredictor(SklearnPredictor):
    """An estimator that gets its rows as a data frame."""

    def to_input(self, rows: Sequence[Row]) -> Any:  # noqa: ANN401
        """A data frame with the features' names. A missing value becomes NaN."""
        if self.interface.input == "texts":
            return super().to_input(rows)
        columns = zip(self.interface.features, zip(*rows, strict=True), strict=True)
        return pandas.DataFrame({feature.name: _create_series(feature, values) for feature, values in columns})


def _create_series(feature: Feature, values: Row) -> Any:  # noqa: ANN401
    if not feature.missing:
        return pandas.Series(values, dtype=TYPES[feature.base_type])
    return pandas.Series(
        [math.nan if value is None else value for value in values], dtype=TYPES_WITH_GAPS[feature.base_type]
    )


def load(contract: Contract, content: bytes) -> DataFramePredictor:
    """The pickled estimator of a contract. Raises ModelLoadError if another version of a library wrote it."""
    require_same_versions(contract)
    return DataFramePredictor(content, contract.interface)
