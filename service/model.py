"""Loads a model that is what its contract says, or refuses it; predicts with it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec
from msgspec import Struct

from service.contract import Contract

if TYPE_CHECKING:
    from service.forest import Forest

CONTRACT = "model.json"


class ModelRefused(Exception):
    """The model is not what its contract says; the message is one sentence that ends with what to do."""


class Classifier(Protocol):
    """What a runtime makes of a model's file; `inline` says that a call is too short to be worth a thread."""

    inline: bool

    def probabilities(self, rows: Sequence[Sequence[float]]) -> list[list[float]]:
        """The probability of each label, in the contract's order, for each row."""


class Prediction(Struct, frozen=True):
    """The most probable label of one row, and the probability of each."""

    label: str
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Model:
    """A loaded model and its contract."""

    contract: Contract
    classifier: Classifier

    def predict(self, rows: Sequence[Sequence[float]]) -> list[Prediction]:
        """Predict rows of as many numbers as the contract has features, in their order."""
        labels = self.contract.labels
        # Of equal ones the first, as scikit-learn has it.
        return [
            Prediction(labels[row.index(max(row))], dict(zip(labels, row, strict=True)))
            for row in self.classifier.probabilities(rows)
        ]

    def complaint(self) -> str:
        """Why this model is not ready: what its first golden row should have been; empty when it is right."""
        golden = self.contract.golden[0]
        predicted = self.predict([golden.features])[0]
        if predicted.label != golden.label:
            return f"the first golden row is {golden.label}, this model says {predicted.label}"
        return ""


def load(directory: Path) -> Model:
    """Load model.json and the file that it names from `directory`, with the runtime that it names.

    The file is read once: the bytes that are hashed are the bytes that are loaded, since unpickling runs code.
    Raises ModelRefused.
    """
    return loaded(*read(directory))


def loaded(contract: Contract, content: bytes) -> Model:
    """The model of a contract, from bytes that are known to be what it describes. Raises ModelRefused."""
    if contract.runtime == "sklearn":
        _require_same_versions(contract)
    try:
        return Model(contract, forest(contract, content) if contract.runtime == "lean" else _pickled(content))
    except ModuleNotFoundError as error:
        raise ModelRefused(
            f"the model is for the {contract.runtime} runtime, which this image does not have ({error.name} is "
            "missing); build the image with that runtime, or convert the model."
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
        classifier = Forest(content)
    except ValueError as error:
        raise ModelRefused(f"{contract.artefact.file} {error}; convert the model again.") from error
    except OSError as error:
        raise ModelRefused(f"the evaluator cannot be loaded ({error}); say python -m service.evaluator.") from error
    if (classifier.features, classifier.outputs) != (len(contract.features), len(contract.labels)):
        raise ModelRefused(
            f"{contract.artefact.file} takes {classifier.features} features and knows {classifier.outputs} labels, its "
            f"contract {len(contract.features)} and {len(contract.labels)}; convert the model again."
        )
    return classifier


def _pickled(content: bytes) -> Classifier:
    # Here and not above, as in the function above: an image has one of the two, and what only the other one needs.
    from service.pickled import Pickled

    return Pickled(content)


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
