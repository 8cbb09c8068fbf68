"""Loads a model that is what its contract says, or refuses it; predicts with it."""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from pydantic import ValidationError

from service.contract import Contract


class ModelRefused(Exception):
    """The model is not what its contract says; the message is one sentence that ends with what to do."""


@dataclass(frozen=True)
class Prediction:
    """The most probable label of one row, and the probability of each."""

    label: str
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Model:
    """A loaded model and its contract."""

    contract: Contract
    classifier: Any

    def predict(self, rows: Sequence[Sequence[float]]) -> list[Prediction]:
        """Predict rows of as many numbers as the contract has features, in their order."""
        probabilities = self.classifier.predict_proba(np.asarray(rows, dtype=np.float64))
        labels = self.contract.labels
        return [
            Prediction(labels[int(np.argmax(row))], dict(zip(labels, map(float, row), strict=True)))
            for row in probabilities
        ]

    def complaint(self) -> str:
        """Why this model is not ready: what its first golden row should have been; empty when it is right."""
        golden = self.contract.golden[0]
        predicted = self.predict([golden.features])[0]
        if predicted.label != golden.label:
            return f"the first golden row is {golden.label}, this model says {predicted.label}"
        return ""


def load(directory: Path) -> Model:
    """Load model.json and the file that it names from `directory`.

    The file is read once: the bytes that are hashed are the bytes that are unpickled, since unpickling runs code.
    Raises ModelRefused.
    """
    try:
        contract = Contract.model_validate_json((directory / "model.json").read_bytes())
        content = (directory / contract.artefact.file).read_bytes()
    except OSError as error:
        raise ModelRefused(f"{error.filename} cannot be read ({error.strerror}); train the model first.") from error
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "the whole file"
        raise ModelRefused(f"model.json is no contract: {where} is wrong; train the model again.") from error
    _require_same_bytes(contract, content)
    _require_same_versions(contract)
    return Model(contract, joblib.load(io.BytesIO(content)))


def _require_same_bytes(contract: Contract, content: bytes) -> None:
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != contract.artefact.sha256:
        raise ModelRefused(
            f"{contract.artefact.file} is not the recorded model: expected sha256 {contract.artefact.sha256} "
            f"({contract.artefact.size_bytes} bytes), got {sha256} ({len(content)} bytes); copy it again."
        )


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
