"""model.json: the contract that travels with a model. It names the model's file and what the model must answer."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeGuard

import msgspec
from msgspec import Meta, Struct

FILE_NAME = "model.json"
Task = Literal["classification", "multilabel", "regression", "outliers", "clustering"]
ModelInput = Literal["table", "texts"]
# Synthetic rows have values of the data, each column drawn by itself.
GoldenSource = Literal["holdout", "synthetic"]
FeatureType = Literal["number", "integer", "boolean", "string", "category"]
# A row is a list of values in the order of the features. None is a missing value.
Value = bool | int | float | str | None
Row = Sequence[Value]
# As the estimator's classes are: a class 1 is the number 1 in JSON, and True is true.
Label = str | bool | int | float
# Of two larger whole numbers a 64-bit float may make one.
MAX_INTEGER = 2**53 - 1
# A forest computes with 32-bit floats, and takes no larger number.
MAX_FLOAT32 = 3.4e38
# What an outlier detector's `predict` says: -1 is an outlier.
OUTLIER_LABELS: tuple[Label, ...] = (-1, 1)
# One plain name: a path would lead out of the contract's own folder. In Python `$` also matches before a last newline.
PlainName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}$(?!\n)")]
# The name of a module in service/runtimes/, of requirements/image-NAME.txt, and of its converter in export/ if any.
RuntimeName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*$(?!\n)")]


class ModelLoadError(Exception):
    """The model cannot be loaded, or is not what its contract says; the message ends with what to do."""


class Feature(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A feature, and which JSON values it takes.

    `values` are those that a category was trained with. `missing` features take null. The values of `private` ones are
    shown nowhere.
    """

    name: str
    type: FeatureType
    values: list[Label] = []
    missing: bool = False
    private: bool = False

    @property
    def base_type(self) -> FeatureType:
        """The type of a category's values, or else the feature's own."""
        if self.type != "category":
            return self.type
        if any(isinstance(value, str) for value in self.values):
            return "string"
        return "integer" if all(isinstance(value, int) for value in self.values) else "number"

    def accepts(self, value: Value) -> bool:
        """Whether a value has this feature's type. A category may have a value that it was not trained with."""
        if value is None:
            return self.missing
        match self.base_type:
            case "string":
                return isinstance(value, str)
            case "boolean":
                return isinstance(value, bool)
            case "integer":
                return _is_number(value) and value == int(value)
            case _:
                return _is_number(value)


def _is_number(value: Value) -> TypeGuard[float]:
    # In Python, bool is an int.
    return isinstance(value, int | float) and not isinstance(value, bool)


class Output(Struct, frozen=True, forbid_unknown_fields=True):
    """One of several values that a model answers with, and how far it may be from a golden one."""

    name: str
    tolerance: float


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


class ReferenceRows(Struct, frozen=True, forbid_unknown_fields=True):
    """The held-out rows in a file beside the contract, by its bytes. They are never in an image."""

    file: PlainName
    sha256: str
    size_bytes: int
    rows: int


class GoldenRow(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One input and the trained model's answer, in the form of the model's task.

    `probabilities` has one for each label, by `label_text`, and `values` one for each of the contract's `outputs`.
    """

    features: list[Value]
    label: Label | None = None
    labels: list[Label] | None = None
    probabilities: dict[str, float] = {}
    value: float | None = None
    values: dict[str, float] = {}
    score: float | None = None

    @property
    def answer_fields(self) -> set[str]:
        """The fields that the answer has."""
        empty = GoldenRow(features=[])
        names = (field for field in self.__struct_fields__ if field != "features")
        return {name for name in names if getattr(self, name) != getattr(empty, name)}


class Equivalence(Struct, frozen=True, forbid_unknown_fields=True):
    """The model that this one was converted from, and how far their answers differ on so many rows."""

    source_sha256: str
    rows: int
    max_abs_difference: float


class Contract(Struct, frozen=True, forbid_unknown_fields=True):
    """All of model.json. `tolerance` is how far a probability, a value or a score may be from a golden one.

    `outputs` are several values, each with a tolerance of its own. `input` is what the model takes: a table, or a list
    of texts.
    """

    name: str
    task: Task
    artifact: Artifact
    features: list[Feature]
    labels: list[Label]
    python: str
    libraries: dict[str, str]
    holdout: Holdout
    golden: Annotated[list[GoldenRow], Meta(min_length=1)]
    tolerance: float
    schema_version: Literal[1] = 1
    outputs: list[Output] = []
    input: ModelInput = "table"
    golden_source: GoldenSource = "holdout"
    reference: ReferenceRows | None = None
    runtime: RuntimeName = "sklearn"
    equivalence: Equivalence | None = None

    def __post_init__(self) -> None:
        """Raise ValueError if the parts contradict each other."""
        if bool(self.labels) != (self.task != "regression"):
            raise ValueError(f"the task {self.task} has {'no labels' if self.labels else 'labels'}")
        if self.outputs and self.task != "regression":
            raise ValueError(f"the task {self.task} has no outputs")
        if not 0 <= self.tolerance < (1 if self.task in ("classification", "multilabel") else math.inf):
            raise ValueError(f"the task {self.task} cannot have a tolerance of {self.tolerance:g}")
        if self.input == "texts" and [feature.type for feature in self.features] != ["string"]:
            raise ValueError("a model of texts has one feature, a string")
        for feature in self.features:
            if bool(feature.values) != (feature.type == "category"):
                raise ValueError(f"the {feature.type} {feature.name} has {'' if feature.values else 'no '}values")
        answer_fields, texts = self.answer_fields, set(self.label_texts)
        for number, row in enumerate(self.golden):
            if row.answer_fields != answer_fields:
                raise ValueError(f"golden.{number} is not the answer of this model")
            if len(row.features) != len(self.features) or not all(
                feature.accepts(value) for feature, value in zip(self.features, row.features, strict=True)
            ):
                raise ValueError(f"golden.{number} has other features than the model")
            labels = [row.label] if row.label is not None else row.labels or []
            if not {label_text(label) for label in labels} <= texts:
                raise ValueError(f"golden.{number} has a label that the model does not have")
            if row.probabilities and set(row.probabilities) != texts:
                raise ValueError(f"golden.{number} has other probabilities than the model's labels")
            if list(row.values) != self.output_names:
                raise ValueError(f"golden.{number} has other values than the model's outputs")

    @property
    def answer_fields(self) -> set[str]:
        """The fields of each answer."""
        match self.task:
            case "regression":
                return {"values"} if self.outputs else {"value"}
            case "outliers":
                return {"label", "score"}
            case "multilabel":
                return {"labels", "probabilities"} if self.has_probabilities else {"labels"}
            case _:
                return {"label", "probabilities"} if self.has_probabilities else {"label"}

    @property
    def has_probabilities(self) -> bool:
        """Whether the model gives the probability of each label."""
        return bool(self.golden[0].probabilities)

    @property
    def label_texts(self) -> list[str]:
        """The labels as names of probabilities."""
        return [label_text(label) for label in self.labels]

    @property
    def feature_names(self) -> list[str]:
        """The names of the features, in the model's order."""
        return [feature.name for feature in self.features]

    @property
    def output_names(self) -> list[str]:
        """The names of several values; empty if the model has one value, or none."""
        return [output.name for output in self.outputs]

    @property
    def interface(self) -> Interface:
        """What a model takes, and in which form it answers."""
        return Interface(
            self.task,
            self.features,
            self.input,
            self.labels,
            self.output_names,
            has_probabilities=self.has_probabilities,
        )


class Interface(NamedTuple):
    """What a model takes, and in which form it answers; each field as in the contract."""

    task: Task
    features: list[Feature]
    input: ModelInput = "table"
    labels: list[Label] = []  # noqa: RUF012 - never changed
    outputs: list[str] = []  # noqa: RUF012 - never changed
    has_probabilities: bool = False

    @property
    def probability_names(self) -> list[str]:
        """The labels as names of probabilities; empty if the model gives none."""
        return [label_text(label) for label in self.labels] if self.has_probabilities else []


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
