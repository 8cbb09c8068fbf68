"""model.json: the contract that travels with a model. It names the model's file and what the model must answer."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

FILE_NAME = "model.json"
Task = Literal["classification", "regression"]
Kind = Literal["number", "string"]
Row = Sequence[float | str]
# As the estimator's classes are: a class 1 is the number 1 in JSON, and True is true.
Label = str | bool | int | float
# One plain name: a path would lead out of the contract's own folder. In Python `$` also matches before a last newline.
PlainName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}$(?!\n)")]
# The name of a module in service/runtimes/, of requirements/image-NAME.txt, and of its converter in export/ if any.
RuntimeName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*$(?!\n)")]


class ModelLoadError(Exception):
    """The model cannot be loaded, or is not what its contract says; the message ends with what to do."""


class Artifact(Struct, frozen=True, forbid_unknown_fields=True):
    """The model's file, by its bytes."""

    file: PlainName
    sha256: str
    size_bytes: int


class Holdout(Struct, frozen=True, forbid_unknown_fields=True):
    """How good the model was on rows that it had not seen: each score by its name, and its interval of 95 %."""

    rows: int
    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]] = {}


class GoldenRow(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One input and the trained model's answer: a value, or a label and, if the model has them, probabilities.

    `probabilities` has one for each label, by `label_text`.
    """

    features: list[float | str]
    label: Label | None = None
    probabilities: dict[str, float] = {}
    value: float | None = None

    @property
    def task(self) -> Task | None:
        """The task that has such an answer; None if no task has."""
        if self.label is not None:
            return "classification" if self.value is None else None
        return None if self.probabilities or self.value is None else "regression"


class Equivalence(Struct, frozen=True, forbid_unknown_fields=True):
    """The model that this one was converted from, and how far their answers differ on so many rows."""

    source_sha256: str
    rows: int
    max_abs_difference: float


class Contract(Struct, frozen=True, forbid_unknown_fields=True):
    """All of model.json. `tolerance` is how far a probability, or the value, may be from a golden one.

    `kinds` has one entry for each feature; if it is empty, all features are numbers.
    """

    name: str
    task: Task
    artifact: Artifact
    features: list[str]
    labels: list[Label]
    python: str
    libraries: dict[str, str]
    holdout: Holdout
    golden: Annotated[list[GoldenRow], Meta(min_length=1)]
    tolerance: float
    schema_version: Literal[1] = 1
    kinds: list[Kind] = []
    runtime: RuntimeName = "sklearn"
    equivalence: Equivalence | None = None

    def __post_init__(self) -> None:
        """Raise ValueError if the parts contradict each other."""
        kinds = self.feature_kinds
        if len(kinds) != len(self.features):
            raise ValueError(f"it has {len(self.features)} features, and kinds of {len(self.kinds)}")
        if bool(self.labels) != (self.task == "classification"):
            raise ValueError(f"a {self.task} has {'labels' if self.task == 'classification' else 'no labels'}")
        if not 0 <= self.tolerance < (1 if self.task == "classification" else math.inf):
            raise ValueError(f"a {self.task} cannot have a tolerance of {self.tolerance:g}")
        for number, row in enumerate(self.golden):
            if row.task != self.task:
                raise ValueError(f"golden.{number} is not the answer of a {self.task}")
            if ["string" if isinstance(value, str) else "number" for value in row.features] != kinds:
                raise ValueError(f"golden.{number} has other features than the model")
            if row.label is not None and label_text(row.label) not in self.label_texts:
                raise ValueError(f"golden.{number} has a label that the model does not have")
            if set(row.probabilities) != (set(self.label_texts) if self.has_probabilities else set()):
                raise ValueError(f"golden.{number} has other probabilities than the model's labels")

    @property
    def has_probabilities(self) -> bool:
        """Whether the model gives the probability of each label."""
        return bool(self.golden[0].probabilities)

    @property
    def label_texts(self) -> list[str]:
        """The labels as names of probabilities."""
        return [label_text(label) for label in self.labels]

    @property
    def feature_kinds(self) -> list[Kind]:
        """The kind of each feature."""
        return self.kinds or ["number"] * len(self.features)


def label_text(label: Label) -> str:
    """A label as a name in JSON: a string as it is, 1 as "1", True as "true"."""
    return label if isinstance(label, str) else json.dumps(label)


def parse_contract(content: bytes) -> Contract:
    """Parse the bytes of model.json. Raises ModelLoadError."""
    try:
        return msgspec.json.decode(content, type=Contract)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelLoadError(f"{FILE_NAME} is not a contract: {error}; train the model again.") from error


def write_contract(contract: Contract, directory: Path) -> None:
    """Write model.json into `directory`, indented for people."""
    (directory / FILE_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(contract), indent=2) + b"\n")


def verify_sha256(contract: Contract, content: bytes) -> None:
    """Raise ModelLoadError if `content` is not the model file that the contract names."""
    artifact, sha256 = contract.artifact, hashlib.sha256(content).hexdigest()
    if sha256 != artifact.sha256:
        raise ModelLoadError(
            f"{artifact.file} is not the recorded model: expected sha256 {artifact.sha256} "
            f"({artifact.size_bytes} bytes), got {sha256} ({len(content)} bytes); copy it again."
        )
