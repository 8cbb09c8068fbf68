"""Loads a model that is what its contract says, or refuses it; predicts with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from msgspec import Struct

from service.contract import FILE_NAME, Contract, Interface, Label, ModelLoadError, Row, parse_contract, verify_sha256
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


class ValuesPrediction(Struct, frozen=True):
    """Several values of one row, by the contract's `outputs`."""

    label: ClassVar[str] = "values"

    values: dict[str, float]


class LabelsPrediction(Struct, frozen=True, omit_defaults=True):
    """All labels of one row, and the probability of each label if the model gives them."""

    labels: list[Label]
    probabilities: dict[str, float] = {}


class OutlierPrediction(Struct, frozen=True):
    """The label of one row, -1 for an outlier, and its score: it is negative for outliers."""

    label: Label
    score: float


Prediction = (
    ClassPrediction | LabelPrediction | RegressionPrediction | ValuesPrediction | LabelsPrediction | OutlierPrediction
)


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
        return create_predictions(self._interface, self._probability_names, answers)

    # Both are the same for every request.
    @cached_property
    def _interface(self) -> Interface:
        return self.contract.interface

    @cached_property
    def _probability_names(self) -> list[str]:
        return self._interface.probability_names

    def self_test(self) -> str:
        """Predict the first golden row; return what is wrong with the answer, or "" if it is right."""
        golden = self.contract.golden[0]
        try:
            prediction = self.predict([golden.features])[0]
        except PredictionError as error:
            return f"the first golden row is refused: {error}"
        for field in self.contract.answer_fields - {"probabilities", "score"}:
            expected, actual = getattr(golden, field), getattr(prediction, field)
            if not self._is_near(field, expected, actual):
                return f"the first golden row is {expected}, this model says {actual}"
        return ""

    def _is_near(self, field: str, expected: Any, actual: Any) -> bool:  # noqa: ANN401 - an answer of any task
        match field:
            case "value":
                return bool(abs(expected - actual) <= self.contract.tolerance)
            case "values":
                return all(
                    abs(expected[output.name] - actual[output.name]) <= output.tolerance
                    for output in self.contract.outputs
                )
            case _:
                # A label may be a number, and then no other number is near enough.
                return bool(expected == actual)


def create_predictions(interface: Interface, names: Sequence[str], answers: Answers) -> list[Prediction]:
    """The answers in the form of the model's task; `names` are those of the probabilities, if it gives any."""
    labels, numbers = interface.labels, answers.numbers
    match interface.task:
        case "regression" if interface.outputs:
            return [ValuesPrediction(dict(zip(interface.outputs, row, strict=True))) for row in numbers]
        case "regression":
            return [RegressionPrediction(value) for (value,) in numbers]
        case "multilabel":
            sets = [[labels[place] for place in places] for places in answers.label_sets]
            if not names:
                return [LabelsPrediction(each) for each in sets]
            return [
                LabelsPrediction(each, dict(zip(names, row, strict=True)))
                for each, row in zip(sets, numbers, strict=True)
            ]
    # The first of equal ones, as scikit-learn has it.
    places = [row.index(max(row)) for row in numbers] if answers.labels is None else answers.labels
    if interface.task == "outliers":
        return [OutlierPrediction(labels[place], score) for place, (score,) in zip(places, numbers, strict=True)]
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
