"""Loads a model that is what its contract says, or refuses it; predicts with it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import msgspec
from msgspec import Struct

from service.contract import Contract, Row

if TYPE_CHECKING:
    from service.forest import Forest

CONTRACT = "model.json"


class ModelRefused(Exception):
    """The model is not what its contract says; the message is one sentence that ends with what to do."""


class NoAnswer(Exception):
    """Rows of the contract's form that the model cannot answer; the message is a sentence for whoever sent them."""


class WrongNumber(Exception):
    """A model that gave more or fewer answers than it got rows: whose answer is whose, nobody can say."""

    def __init__(self, answers: int, rows: int) -> None:
        super().__init__(f"{answers} answers to {rows} rows")


class Predictor(Protocol):
    """What a runtime makes of a model's file; `inline` says that a call is too short to be worth a thread."""

    inline: bool

    def answer(self, rows: Sequence[Row]) -> list[list[float]]:
        """For each row the probability of each label, in the contract's order; or the one value. Raises NoAnswer."""


class Prediction(Struct, frozen=True):
    """The most probable label of one row, and the probability of each."""

    label: str
    probabilities: dict[str, float]


class Estimate(Struct, frozen=True):
    """The value of one row, in the unit of what the model was trained on."""

    # What it is counted as, where predictions are counted by their labels.
    label: ClassVar[str] = "value"

    value: float


Predicted = Prediction | Estimate


@dataclass(frozen=True)
class Model:
    """A loaded model and its contract."""

    contract: Contract
    predictor: Predictor

    def predict(self, rows: Sequence[Row]) -> list[Predicted]:
        """Predict rows that have the contract's features, in their order. Raises NoAnswer, WrongNumber."""
        labels = self.contract.labels
        answers = self.predictor.answer(rows)
        if len(answers) != len(rows):
            raise WrongNumber(len(answers), len(rows))
        if not labels:
            return [Estimate(value) for (value,) in answers]
        # Of equal ones the first, as scikit-learn has it.
        return [Prediction(labels[row.index(max(row))], dict(zip(labels, row, strict=True))) for row in answers]

    def complaint(self) -> str:
        """Why this model is not ready: what its first golden row should have been; empty when it is right."""
        golden = self.contract.golden[0]
        try:
            predicted = self.predict([golden.features])[0]
        except NoAnswer as refused:
            return f"the first golden row is refused: {refused}"
        expected: float | str | None
        got: float | str
        if isinstance(predicted, Estimate):
            expected, got = golden.value, predicted.value
            right = golden.value is not None and abs(predicted.value - golden.value) <= self.contract.tolerance
        else:
            expected, got = golden.label, predicted.label
            right = got == expected
        return "" if right else f"the first golden row is {expected}, this model says {got}"


def load(directory: Path) -> Model:
    """Load model.json and the file that it names from `directory`, with the runtime that it names.

    The file is read once: the bytes that are hashed are the bytes that are loaded, since unpickling runs code.
    Raises ModelRefused.
    """
    return loaded(*read(directory))


def loaded(contract: Contract, content: bytes) -> Model:
    """The model of a contract, from bytes that are known to be what it describes. Raises ModelRefused."""
    if contract.runtime != "lean":
        _require_same_versions(contract)
    try:
        return Model(contract, forest(contract, content) if contract.runtime == "lean" else _pickled(contract, content))
    except (ModuleNotFoundError, AttributeError) as error:
        # Of the service itself an image has what its runtime needs; any other module is one that the pickle names.
        if isinstance(error, ModuleNotFoundError) and str(error.name).startswith("service."):
            raise ModelRefused(
                f"the model is for the {contract.runtime} runtime, which this image does not have ({error.name} is "
                "missing); build the image with that runtime, or convert the model."
            ) from error
        raise ModelRefused(
            f"the model needs code that is not in this image ({error}); build it of what its libraries have."
        ) from error


def read(directory: Path) -> tuple[Contract, bytes]:
    """The contract in `directory`, and the bytes that it describes: only read, and not loaded. Raises ModelRefused."""
    try:
        contract = decoded((directory / CONTRACT).read_bytes())
        content = (directory / contract.artefact.file).read_bytes()
    except OSError as error:
        raise ModelRefused(f"{error.filename} cannot be read ({error.strerror}); train the model first.") from error
    require_recorded(contract, content)
    return contract, content


def write(contract: Contract, directory: Path) -> None:
    """Write model.json into `directory`, for people and machines to read."""
    (directory / CONTRACT).write_bytes(msgspec.json.format(msgspec.json.encode(contract), indent=2) + b"\n")


def decoded(content: bytes) -> Contract:
    """The contract that model.json holds. Raises ModelRefused."""
    try:
        return msgspec.json.decode(content, type=Contract)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelRefused(f"{CONTRACT} is no contract: {error}; train the model again.") from error


def require_recorded(contract: Contract, content: bytes) -> None:
    """Raise ModelRefused where these are not the bytes that the contract describes."""
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != contract.artefact.sha256:
        raise ModelRefused(
            f"{contract.artefact.file} is not the recorded model: expected sha256 {contract.artefact.sha256} "
            f"({contract.artefact.size_bytes} bytes), got {sha256} ({len(content)} bytes); copy it again."
        )


def forest(contract: Contract, content: bytes) -> Forest:
    """The lean model of a contract. Raises ModelRefused where it is none, or of another form than its contract says."""
    from service.forest import Forest

    try:
        lean = Forest(content)
    except ValueError as error:
        raise ModelRefused(f"{contract.artefact.file} {error}; convert the model again.") from error
    except OSError as error:
        raise ModelRefused(f"the evaluator cannot be loaded ({error}); say python -m service.evaluator.") from error
    if (lean.features, lean.outputs) != (len(contract.features), len(contract.labels) or 1):
        raise ModelRefused(
            f"{contract.artefact.file} takes {lean.features} features and gives {lean.outputs} numbers, its contract "
            f"{len(contract.features)} and {len(contract.labels) or 1}; convert the model again."
        )
    return lean


def _pickled(contract: Contract, content: bytes) -> Predictor:
    # Here and not above, as in the function above: an image has one of them, and what only the other ones need.
    from service.pickled import Framed, Pickled

    if contract.runtime == "frame":
        return Framed(content, contract.task, contract.features, contract.feature_kinds)
    return Pickled(content, contract.task)


def _require_same_versions(contract: Contract) -> None:
    """A pickle is only promised to load with the versions that wrote it."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    here = {"python": python, **{name: _installed(name) for name in contract.libraries}}
    trained = {"python": contract.python, **contract.libraries}
    differing = [f"{name} {trained[name]} (here {here[name]})" for name in trained if trained[name] != here[name]]
    if differing:
        raise ModelRefused(f"the model was trained with {', '.join(differing)}; train it again with these versions.")


def _installed(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "not installed"
