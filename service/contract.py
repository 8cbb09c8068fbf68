"""The contract that travels with a model: what the file is, what made it, and what it has to answer.

All parts are frozen, and what they do not name does not belong there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

# `frame` is sklearn with pandas: its model gets rows as a data frame, with names, and words among the numbers.
Runtime = Literal["sklearn", "frame", "lean"]
Task = Literal["classification", "regression"]
Kind = Literal["number", "word"]
Row = Sequence[float | str]
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}")


class Artefact(Struct, frozen=True, forbid_unknown_fields=True):
    """The model's file, by its bytes."""

    file: str
    sha256: str
    size_bytes: int

    def __post_init__(self) -> None:
        """Raise ValueError if `file` is not one plain name: it would lead out of the contract's own folder."""
        if not FILE_NAME.fullmatch(self.file):
            raise ValueError("file is one plain file name, of letters, digits, dots, dashes and underscores")


class Holdout(Struct, frozen=True, forbid_unknown_fields=True):
    """How good the model was on rows that it had not seen: each score by its name."""

    rows: int
    scores: dict[str, float]


class GoldenRow(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One input, and what the model answered to it: a label and each one's probability, or the value."""

    features: list[float | str]
    label: str = ""
    probabilities: dict[str, float] = {}
    value: float | None = None

    @property
    def task(self) -> Task | None:
        """What answers so; None where nothing does."""
        if self.value is None:
            return "classification" if self.label and self.probabilities else None
        return None if self.label or self.probabilities else "regression"


class Equality(Struct, frozen=True, forbid_unknown_fields=True):
    """The model that a lean one was made from, by its bytes, and how far from it any of so many rows was answered."""

    source_sha256: str
    rows: int
    worst_difference: float


class Contract(Struct, frozen=True, forbid_unknown_fields=True):
    """All of model.json; `tolerance` is how far a probability, or the value, may be from a golden one.

    `kinds` says of each feature what it is; where it is empty, all are numbers.
    """

    name: str
    task: Task
    artefact: Artefact
    features: list[str]
    labels: list[str]
    python: str
    libraries: dict[str, str]
    holdout: Holdout
    golden: Annotated[list[GoldenRow], Meta(min_length=1)]
    tolerance: float
    schema_version: Literal[1] = field(default=1, name="schema")
    kinds: list[Kind] = []
    runtime: Runtime = "sklearn"
    equality: Equality | None = None

    def __post_init__(self) -> None:
        """Raise ValueError where the parts do not fit together."""
        kinds = self.feature_kinds
        if len(kinds) != len(self.features):
            raise ValueError(f"it has {len(self.features)} features, and kinds of {len(self.kinds)}")
        if bool(self.labels) != (self.task == "classification"):
            raise ValueError(f"a {self.task} has {'labels' if self.task == 'classification' else 'no labels'}")
        if not 0 <= self.tolerance < (1 if self.task == "classification" else math.inf):
            raise ValueError(f"a tolerance of {self.tolerance:g} is none of a {self.task}")
        for number, row in enumerate(self.golden):
            if row.task != self.task:
                raise ValueError(f"golden.{number} is none of a {self.task}")
            if ["word" if isinstance(each, str) else "number" for each in row.features] != kinds:
                raise ValueError(f"golden.{number} has other features than the model")

    @property
    def feature_kinds(self) -> list[Kind]:
        """What each feature is."""
        return self.kinds or ["number"] * len(self.features)
