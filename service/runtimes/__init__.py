"""Runtimes: each module here makes a predictor of one kind of model file. An image has the packages of one of them.

The module's name is the runtime's name in model.json and pipeline.toml. Its interface is `load(contract, content)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple, Protocol

from service.contract import Contract, ModelLoadError, Row


class PredictionError(Exception):
    """The model cannot answer these rows, although they have its form; the message is for their sender."""


class Answers(NamedTuple):
    """A model's answers to rows, in their order.

    `numbers` has for each row the probability of each label in the contract's order, or the values, or the score of an
    outlier; nothing if the model gives no probabilities. `labels` has for each row the place of its label in the
    contract; None if that is the most probable one, or if a row has not one label. `label_sets` has for each row the
    places of all its labels, if it may have several.
    """

    numbers: list[list[float]]
    labels: list[int] | None = None
    label_sets: list[list[int]] = []  # noqa: RUF012 - never changed

    @property
    def row_count(self) -> int:
        """How many rows were answered."""
        return len(self.label_sets or (self.numbers if self.labels is None else self.labels))


class Predictor(Protocol):
    """A loaded model file. `inline` is True if a call is too short to be worth a thread."""

    inline: bool

    def predict(self, rows: Sequence[Row]) -> Answers:
        """Answer rows that have the contract's features in their order. Raises PredictionError."""


def load_predictor(contract: Contract, content: bytes) -> Predictor:
    """Load the model file's `content` with the runtime that the contract names. Raises ModelLoadError."""
    try:
        runtime = import_module(f"service.runtimes.{contract.runtime}")
    except ModuleNotFoundError as error:
        raise ModelLoadError(
            f"the model is for the {contract.runtime} runtime, which this image does not have ({error.name} is "
            "missing); build the image with that runtime, or convert the model."
        ) from error
    try:
        predictor: Predictor = runtime.load(contract, content)
    # A pickle names modules and their members.
    except (ModuleNotFoundError, AttributeError) as error:
        raise ModelLoadError(
            f"the model needs a module that is not in this image ({error}); train it with the packages of "
            f"requirements/image-{contract.runtime}.txt only."
        ) from error
    return predictor
