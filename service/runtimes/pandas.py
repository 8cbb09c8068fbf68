"""The runtime `pandas`: the runtime `sklearn` for a model that takes named columns, or strings among the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas

from service.contract import Contract, Kind, Row, Task
from service.runtimes.sklearn import SklearnPredictor, require_same_versions


class DataFramePredictor(SklearnPredictor):
    """An estimator that gets its rows as a data frame."""

    def __init__(
        self,
        content: bytes,
        task: Task,
        features: Sequence[str],
        kinds: Sequence[Kind],
        *,
        has_probabilities: bool = True,
    ) -> None:
        """Unpickle `content`; `features` and `kinds` are the contract's."""
        self._types = {
            name: "float64" if kind == "number" else "object" for name, kind in zip(features, kinds, strict=True)
        }
        super().__init__(content, task, has_probabilities=has_probabilities)

    def to_input(self, rows: Sequence[Row]) -> Any:  # noqa: ANN401
        """A data frame with the features' names."""
        columns = zip(self._types.items(), zip(*rows, strict=True), strict=True)
        return pandas.DataFrame({name: pandas.Series(values, dtype=kind) for (name, kind), values in columns})


def load(contract: Contract, content: bytes) -> DataFramePredictor:
    """The pickled estimator of a contract. Raises ModelLoadError if another version of a library wrote it."""
    require_same_versions(contract)
    return DataFramePredictor(
        content,
        contract.task,
        contract.features,
        contract.feature_kinds,
        has_probabilities=contract.has_probabilities,
    )
