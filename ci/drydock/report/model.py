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
Task = Literal["classification", "regression"]
Kind = Literal["number", "string"]
# As the estimator's classes are: a class 1 is the number 1 in JSON, and True is true.
Label = StrictStr | StrictBool | StrictInt | StrictFloat


# What is shown of a model if nothing else is asked for.
MAIN_SCORES = ("accuracy", "r2", "mean_absolute_error")


def label_text(label: Label) -> str:
    """A label as a name in JSON: a string as it is, 1 as "1", True as "true"."""
    return label if isinstance(label, str) else json.dumps(label)


def is_same_label(left: object, right: object) -> bool:
    """Whether both are the same in JSON, which has one kind of numbers, and booleans beside them."""
    return left == right and isinstance(left, bool) == isinstance(right, bool)


class GoldenAnswer(Value):
    """The trained model's answer to one row of the hold-out set.

    A classification has a label and, if the model gives them, probabilities. A regression has a value alone.
    """

    label: Label | None = Field(default=None, description="in its own type: 1 is a number, true a boolean")
    probabilities: dict[str, float] = Field(default={})
    value: float | None = Field(default=None, description="in the unit of what the model was trained on")

    @property
    def task(self) -> Task | None:
        """The task that gives such an answer; None if no task does."""
        if self.label is not None:
            return "classification" if self.value is None else None
        return None if self.probabilities or self.value is None else "regression"


class GoldenRow(GoldenAnswer):
    """The answer with its input. The input is somebody's data, so a report has the answer alone."""

    features: tuple[StrictFloat | str, ...]


def _require_plain_name(name: str) -> str:
    if not re.fullmatch(PLAIN_NAME, name):
        raise ValueError("it is no plain file name, such as model.pkl")
    return name


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
    rows: int = Field(description="training rows, rows near at most 10,000 splits, and random ones")
    max_abs_difference: float = Field(description="the largest difference between two probabilities, or two values")


class ModelDescription(Value):
    """model.json without its golden rows, which are somebody's data."""

    schema_version: Literal[1]
    name: str
    task: Task
    artifact: Artifact
    features: tuple[str, ...]
    kinds: tuple[Kind, ...] = Field(default=(), description="one for each feature; empty if all are numbers")
    labels: tuple[Label, ...] = Field(description="empty if the model answers with a value")
    python: str
    libraries: dict[str, str]
    holdout: Holdout
    tolerance: float = Field(ge=0, description="the largest allowed difference from the recorded probability or value")
    runtime: str = Field(default="sklearn", pattern=r"^[a-z][a-z0-9_]*$", description="what loads the model's file")
    equivalence: Equivalence | None = None

    @property
    def feature_kinds(self) -> tuple[Kind, ...]:
        """The kind of each feature: number or string."""
        return self.kinds or tuple("number" for _ in self.features)

    @property
    def label_texts(self) -> tuple[str, ...]:
        """The labels as names of probabilities."""
        return tuple(map(label_text, self.labels))

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(self.feature_kinds) != len(self.features):
            raise ValueError(f"it has {len(self.features)} features, and kinds of {len(self.kinds)}")
        if bool(self.labels) != (self.task == "classification"):
            raise ValueError(f"a {self.task} has {'no labels' if self.labels else 'labels'}")
        if self.task == "classification" and self.tolerance >= 1:
            raise ValueError(f"with a tolerance of {self.tolerance:g} any probability would do")
        return self


class Contract(ModelDescription):
    """model.json: what the model is and what it must answer, written when it was trained."""

    golden: tuple[GoldenRow, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _golden_rows_fit(self) -> Self:
        for number, row in enumerate(self.golden):
            if row.task != self.task:
                raise ValueError(f"golden.{number} is no answer of a {self.task}")
            if tuple("string" if isinstance(each, str) else "number" for each in row.features) != self.feature_kinds:
                raise ValueError(f"golden.{number} has other features than the model")
            if row.label is not None and json.dumps(row.label) not in map(json.dumps, self.labels):
                raise ValueError(f"golden.{number} has a label that the model does not have")
            if set(row.probabilities) != (set(self.label_texts) if self.has_probabilities else set()):
                raise ValueError(f"golden.{number} has other probabilities than the model's labels")
        return self

    @property
    def has_probabilities(self) -> bool:
        """Whether the model gives the probability of each label."""
        return bool(self.golden[0].probabilities)


@dataclass(frozen=True)
class Model:
    """A model: its contract as it was read, its folder, and the engine's handle on the same bytes."""

    contract: Contract
    handle: object
    directory: Path
