"""The runtime `pandas`: the runtime `sklearn` for a model that takes named columns, or strings among the numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas

from service.contract import Contract, Feature, Interface, Row
from service.runtimes.sklearn import SklearnPredictor, iter_estimators, require_same_versions

# As pandas reads such a column from a file: one of booleans or integers has another type if a value is missing.
TYPES = {"number": "float64", "integer": "int64", "boolean": "bool", "string": "str"}
TYPES_WITH_GAPS = {"number": "float64", "integer": "float64", "boolean": "object", "string": "str"}


class DataFramePredictor(SklearnPredictor):
    """An estimator that gets its rows as a data frame."""

    def __init__(self, content: bytes, interface: Interface) -> None:
        """Unpickle `content`. That runs code, so its sha256 must be verified before."""
        super().__init__(content, interface)
        self._types_with_gaps = dict(TYPES_WITH_GAPS)
        self._gap: float | None = math.nan
        if any(map(_knows_none, iter_estimators(self.estimator))):
            # To an encoder, None and NaN are two values.
            self._gap, self._types_with_gaps["string"] = None, "object"

    def to_input(self, rows: Sequence[Row]) -> Any:  # noqa: ANN401
        """A data frame with the features' names. A missing value becomes NaN, or None if the model knows None."""
        if self.interface.input == "texts":
            return super().to_input(rows)
        columns = zip(self.interface.features, zip(*rows, strict=True), strict=True)
        return pandas.DataFrame({feature.name: self._create_series(feature, values) for feature, values in columns})

    def _create_series(self, feature: Feature, values: Row) -> Any:  # noqa: ANN401
        if not feature.missing:
            return pandas.Series(values, dtype=TYPES[feature.base_type])
        filled = [self._gap if value is None else value for value in values]
        return pandas.Series(filled, dtype=self._types_with_gaps[feature.base_type])


def _knows_none(estimator: Any) -> bool:  # noqa: ANN401
    """Whether an encoder or an imputer was fitted on None as a missing value, as a database has it."""
    categories = getattr(estimator, "categories_", ())
    return getattr(estimator, "missing_values", math.nan) is None or any(None in list(values) for values in categories)


def load(contract: Contract, content: bytes) -> DataFramePredictor:
    """The pickled estimator of a contract. Raises ModelLoadError if another version of a library wrote it."""
    require_same_versions(contract)
    return DataFramePredictor(content, contract.interface)
