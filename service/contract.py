"""The contract that travels with a model: what the file is, what made it, and what it has to answer.

All parts are frozen, and what they do not name does not belong there.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

Runtime = Literal["sklearn", "lean"]


class Artefact(Struct, frozen=True, forbid_unknown_fields=True):
    """The model's file, by its bytes."""

    file: str
    sha256: str
    size_bytes: int


class Holdout(Struct, frozen=True, forbid_unknown_fields=True):
    """How good the model was on rows that it had not seen; accuracy is a share from 0 to 1."""

    rows: int
    accuracy: float


class GoldenRow(Struct, frozen=True, forbid_unknown_fields=True):
    """One input, and what the model answered to it when it was trained."""

    features: list[float]
    label: str
    probabilities: dict[str, float]


class Equality(Struct, frozen=True, forbid_unknown_fields=True):
    """The model that a lean one was made from, by its bytes, and how far from it any of so many rows was answered."""

    source_sha256: str
    rows: int
    worst_difference: float


class Contract(Struct, frozen=True, forbid_unknown_fields=True):
    """All of model.json; `tolerance` is how far a probability may be from a golden one."""

    name: str
    task: str
    artefact: Artefact
    features: list[str]
    labels: list[str]
    python: str
    libraries: dict[str, str]
    holdout: Holdout
    golden: Annotated[list[GoldenRow], Meta(min_length=1)]
    tolerance: float
    schema_version: Literal[1] = field(default=1, name="schema")
    runtime: Runtime = "sklearn"
    equality: Equality | None = None
