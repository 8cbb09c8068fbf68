"""The model and its contract: what model.json says, and what the model must answer."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from drydock.report.base import Value

PLAIN_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}"
Task = Literal["classification", "multilabel", "regression", "outliers", "clustering"]
FeatureType = Literal["number", "integer", "boolean", "string", "category"]
# A value of a feature in JSON. null is a missing value.
FeatureValue = StrictFloat | StrictInt | StrictBool | StrictStr | None
# As the estimator's classes are: a class 1 is the number 1 in JSON, and True is true.
Label = StrictStr | StrictBool | StrictInt | StrictFloat


# What is shown of a model if nothing else is asked for.
MAIN_SCORES = ("accuracy", "r2", "mean_absolute_error", "adjusted_rand", "outlier_share")
# What stands in place of a value that nobody is to see.
HIDDEN = "…"


def label_text(label: Label) -> str:
    """A label as a name in JSON: a string as it is, 1 as "1", True as "true"."""
    return label if isinstance(label, str) else json.dumps(label)


def is_same_label(left: object, right: object) -> bool:
    """Whether both are the same in JSON, which has one kind of numbers, and booleans beside them; so are lists."""
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(map(is_same_label, left, right))
    return left == right and isinstance(left, bool) == isinstance(right, bool)


class GoldenAnswer(Value):
    """The trained model's answer to one row.

    A classification has a label and, if the model gives them, probabilities. A model of several labels has a list of
    them. A regression has a value, or several by name. An outlier detector has a label and a score, and a clustering a
    label.
    """

    label: Label | None = Field(default=None, description="in its own type: 1 is a number, true a boolean")
    labels: tuple[Label, ...] | None = Field(default=None, description="of a model that may give several")
    probabilities: dict[str, StrictFloat] = Field(default={})
    value: StrictFloat | None = Field(default=None, description="in the unit of what the model was trained on")
    values: dict[str, StrictFloat] = Field(default={}, description="the same for each of several values, by name")
    score: StrictFloat | None = Field(default=None, description="of an outlier detector: negative for an outlier")

    @property
    def answer_fields(self) -> set[str]:
        """The fields that the answer has."""
        return {name for name in GoldenAnswer.model_fields if getattr(self, name) not in (None, {})}


class GoldenRow(GoldenAnswer):
    """The answer with its input. The input is somebody's data, so a report has the answer alone."""

    features: tuple[FeatureValue, ...]


class Feature(Value):
    """A feature of the model, and which JSON values it takes."""

    name: str
    type: FeatureType
    values: tuple[Label, ...] = Field(default=(), description="that a category was trained with")
    missing: bool = Field(default=False, description="whether null is taken")
    private: bool = Field(default=False, description="whether its values are shown nowhere")

    @property
    def base_type(self) -> FeatureType:
        """The type of a category's values, or else the feature's own."""
        if self.type != "category":
            return self.type
        if any(isinstance(value, str) for value in self.values):
            return "string"
        return "integer" if all(isinstance(value, int) for value in self.values) else "number"

    def accepts(self, value: FeatureValue) -> bool:
        """Whether a value has this feature's type. A category may have a value that it was not trained with."""
        if value is None:
            return self.missing
        match self.base_type:
            case "string":
                return isinstance(value, str)
            case "boolean":
                return isinstance(value, bool)
            case kind:
                # In Python, bool is an int.
                is_number = isinstance(value, int | float) and not isinstance(value, bool)
                return is_number and (kind == "number" or value == int(value))


class Output(Value):
    """One of several values that a model answers with."""

    name: str
    tolerance: float = Field(ge=0, description="the largest allowed difference from the recorded value")


def _require_plain_name(name: str) -> str:
    if not re.fullmatch(PLAIN_NAME, name):
        raise ValueError("it is no plain file name, such as model.pkl")
    return name


class ReferenceRows(Value):
    """The held-out rows in a file beside the contract, by its bytes. They are never in an image."""

    file: Annotated[str, AfterValidator(_require_plain_name), Field(json_schema_extra={"pattern": f"^{PLAIN_NAME}$"})]
    sha256: str
    size_bytes: int
    rows: int = Field(description="the number of rows")


class Artifact(Value):
    """The model file of a contract. It lies beside the contract: `file` is a plain name."""

    file: Annotated[str, AfterValidator(_require_plain_name), Field(json_schema_extra={"pattern": f"^{PLAIN_NAME}$"})]
    sha256: str
    size_bytes: int


class Holdout(Value):
    """How good the model is on rows that it was not trained on."""

    rows: int = Field(description="the number of rows")
    scores: dict[str, float] = Field(
        description="by name; accuracy is the share of rows with the right label, from 0 to 1"
    )
    intervals: dict[str, tuple[float, float]] = Field(
        default={}, description="by the score's name: in 95 of 100 samples of such rows, the score lies between these"
    )

    @property
    def main_scores(self) -> dict[str, float]:
        """The scores to show; all of them if the contract names its scores otherwise."""
        return {name: self.scores[name] for name in MAIN_SCORES if name in self.scores} or self.scores


class Equivalence(Value):
    """The model that this one was converted from, and the largest difference of their answers."""

    source_sha256: str
    rows: int = Field(description="training rows, rows near at most 10,000 splits, random ones, and ones with gaps")
    max_abs_difference: float = Field(description="the largest difference between two probabilities, or two values")


class ModelDescription(Value):
    """model.json without its golden rows, which are somebody's data."""

    schema_version: Literal[1]
    name: str
    task: Task
    artifact: Artifact
    features: tuple[Feature, ...]
    labels: tuple[Label, ...] = Field(description="empty if the model answers with a value")
    python: str
    libraries: dict[str, str]
    holdout: Holdout
    tolerance: float = Field(ge=0, description="the largest allowed difference from the recorded probability or value")
    runtime: str = Field(default="sklearn", pattern=r"^[a-z][a-z0-9_]*$", description="what loads the model's file")
    equivalence: Equivalence | None = None
    outputs: tuple[Output, ...] = Field(default=(), description="empty if the model answers with one value, or none")
    input: Literal["table", "texts"] = Field(default="table", description="what the model takes: rows, or texts alone")
    golden_source: Literal["holdout", "synthetic"] = Field(
        default="holdout", description="whether the golden rows are held-out rows, or made up"
    )
    reference: ReferenceRows | None = None

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the features, in the model's order."""
        return tuple(feature.name for feature in self.features)

    @property
    def label_texts(self) -> tuple[str, ...]:
        """The labels as names of probabilities."""
        return tuple(map(label_text, self.labels))

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of several values; empty if the model has one value, or none."""
        return tuple(output.name for output in self.outputs)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if bool(self.labels) != (self.task != "regression"):
            raise ValueError(f"the task {self.task} has {'no labels' if self.labels else 'labels'}")
        if self.outputs and self.task != "regression":
            raise ValueError(f"the task {self.task} has no outputs")
        if self.task in ("classification", "multilabel") and self.tolerance >= 1:
            raise ValueError(f"with a tolerance of {self.tolerance:g} any probability would do")
        if self.input == "texts" and [feature.type for feature in self.features] != ["string"]:
            raise ValueError("a model of texts has one feature, a string")
        for feature in self.features:
            if bool(feature.values) != (feature.type == "category"):
                raise ValueError(f"the {feature.type} {feature.name} has {'' if feature.values else 'no '}values")
        return self


class Contract(ModelDescription):
    """model.json: what the model is and what it must answer, written when it was trained."""

    golden: tuple[GoldenRow, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _golden_rows_fit(self) -> Self:
        texts = set(self.label_texts)
        for number, row in enumerate(self.golden):
            if row.answer_fields != self.answer_fields:
                raise ValueError(f"golden.{number} is no answer of this model")
            if len(row.features) != len(self.features) or not all(
                feature.accepts(value) for feature, value in zip(self.features, row.features, strict=True)
            ):
                raise ValueError(f"golden.{number} has other features than the model")
            labels = row.labels or () if row.label is None else (row.label,)
            if not {json.dumps(label) for label in labels} <= set(map(json.dumps, self.labels)):
                raise ValueError(f"golden.{number} has a label that the model does not have")
            if row.probabilities and set(row.probabilities) != texts:
                raise ValueError(f"golden.{number} has other probabilities than the model's labels")
            if tuple(row.values) != self.output_names:
                raise ValueError(f"golden.{number} has other values than the model's outputs")
        return self

    @property
    def has_probabilities(self) -> bool:
        """Whether the model gives the probability of each label."""
        return bool(self.golden[0].probabilities)

    @property
    def answer_fields(self) -> set[str]:
        """The fields of each answer."""
        match self.task:
            case "regression":
                return {"values"} if self.outputs else {"value"}
            case "outliers":
                return {"label", "score"}
            case task:
                label = "labels" if task == "multilabel" else "label"
                return {label, "probabilities"} if self.has_probabilities else {label}

    def hide_private(self, row: GoldenRow) -> GoldenRow:
        """The row without the values of private features."""
        features = tuple(
            HIDDEN if feature.private else value for feature, value in zip(self.features, row.features, strict=True)
        )
        return row.model_copy(update={"features": features})


@dataclass(frozen=True)
class Model:
    """A model: its contract as it was read, its folder, and the engine's handle on the same bytes."""

    contract: Contract
    handle: object
    directory: Path
