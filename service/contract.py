"""The contract that travels with a model: what the file is, what made it, and what it has to answer."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """A frozen part of the contract; what it does not name does not belong there."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Artefact(Part):
    """The model's file, by its bytes."""

    file: str
    sha256: str
    size_bytes: int


class Holdout(Part):
    """How good the model was on rows that it had not seen; accuracy is a share from 0 to 1."""

    rows: int
    accuracy: float


class GoldenRow(Part):
    """One input, and what the model answered to it when it was trained."""

    features: list[float]
    label: str
    probabilities: dict[str, float]


class Contract(Part):
    """All of model.json; `tolerance` is how far a probability may be from a golden one."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)

    schema_version: Literal[1] = Field(default=1, alias="schema")
    name: str
    task: str
    artefact: Artefact
    features: list[str]
    labels: list[str]
    python: str
    libraries: dict[str, str]
    holdout: Holdout
    golden: list[GoldenRow] = Field(min_length=1)
    tolerance: float
