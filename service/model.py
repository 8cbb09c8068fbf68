"""Loads a model that is what its contract says, or refuses it; predicts with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from msgspec import Struct

from service.contract import FILE_NAME, Contract, Label, ModelLoadError, Row, parse_contract, verify_sha256
from service.runtimes import Answers, PredictionError, Predictor, load_predictor


class RowCountMismatch(Exception):
    """The model gave more or fewer answers than it got rows, so nobody can say which answer belongs to which row."""

    def __init__(self, answers: int, rows: int) -> None:
        super().__init__(f"{answers} answers to {rows} rows")


class ClassPrediction(Struct, frozen=True):
    """The label of one row, and the probability of each label."""

    label: Label
    probabilities: dict[str, float]


class LabelPrediction(Struct, frozen=True):
    """The label of one row, from a model that gives no probabilities."""

    label: Label


class RegressionPrediction(Struct, frozen=True):
    """The value of one row, in the unit of what the model was trained on."""

    # Predictions are counted by their labels; these are counted under this one.
    label: ClassVar[str] = "value"

    value: float


Prediction = ClassPrediction | LabelPrediction | RegressionPrediction


@dataclass(frozen=True)
class Model:
    """A loaded model and its contract."""

    contract: Contract
    predictor: Predictor

    def predict(self, rows: Sequence[Row]) -> list[Prediction]:
        """Predict rows that have the contract's features in their order. Raises PredictionError, RowCountMismatch."""
        answers = self.predictor.predict(rows)
        if answers.row_count != len(rows):
            raise RowCountMismatch(answers.row_count, len(rows))
        return create_predictions(self.contract, self._probability_names, answers)

    @cached_property
    def _probability_names(self) -> list[str]:
        """The labels as names of probabilities; empty if the model gives none."""
        return self.contract.label_texts if self.contract.has_probabilities else []

    def self_test(self) -> str:
        """Predict the first golden row; return what is wrong with the answer, or "" if it is right."""
        golden = self.contract.golden[0]
        try:
            prediction = self.predict([golden.features])[0]
        except PredictionError as error:
            return f"the first golden row is refused: {error}"
        expected: Label | None
        actual: Label
        if isinstance(prediction, RegressionPrediction):
            expected, actual = golden.value, prediction.value
            right = golden.value is not None and abs(prediction.value - golden.value) <= self.contract.tolerance
        else:
            expected, actual = golden.label, prediction.label
            right = actual == expected
        return "" if right else f"the first golden row is {expected}, this model says {actual}"


def create_predictions(contract: Contract, names: Sequence[str], answers: Answers) -> list[Prediction]:
    """The answers as the contract's labels and probabilities, which have these names, or as values."""
    labels, numbers = contract.labels, answers.numbers
    if not labels:
        return [RegressionPrediction(value) for (value,) in numbers]
    # The first of equal ones, as scikit-learn has it.
    places = [row.index(max(row)) for row in numbers] if answers.labels is None else answers.labels
    if not names:
        return [LabelPrediction(labels[place]) for place in places]
    return [
        ClassPrediction(labels[place], dict(zip(names, row, strict=True)))
        for place, row in zip(places, numbers, strict=True)
    ]


def load_model(directory: Path) -> Model:
    """Load model.json and the file that it names from `directory`. Raises ModelLoadError.

    The file is read once: the bytes that are hashed are the bytes that are loaded, since unpickling runs code.
    """
    return build_model(*read_files(directory))


def build_model(contract: Contract, content: bytes) -> Model:
    """The model of a contract, from bytes whose hash is verified. Raises ModelLoadError."""
    return Model(contract, load_predictor(contract, content))


def read_files(directory: Path) -> tuple[Contract, bytes]:
    """Read the contract in `directory` and the bytes that it names, without loading them. Raises ModelLoadError."""
    try:
        contract = parse_contract((directory / FILE_NAME).read_bytes())
        content = (directory / contract.artifact.file).read_bytes()
    except OSError as error:
        raise ModelLoadError(f"{error.filename} cannot be read ({error.strerror}); train the model first.") from error
    verify_sha256(contract, content)
    return contract, content
