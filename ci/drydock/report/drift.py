"""How an image differs from the one before: its answers, its schema, its size, its speed and its findings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, computed_field

from drydock.report.base import Value
from drydock.report.model import Label
from drydock.report.scan import Finding

# A model without a single label has a list of them.
Labels = Label | tuple[Label, ...]


class LabelChange(Value):
    """A row that got another label. The row's values are somebody's data, so only its number is here."""

    row: int = Field(description="from 1: the line of reference.jsonl, or the number of the golden row")
    before: Labels = Field(description="in its own type")
    after: Labels | None = Field(description="null if the row got no answer")


class LabelPair(Value):
    """The number of rows with this label before and this label now."""

    before: Labels = Field(description="in its own type")
    after: Labels | None = Field(description="null if the rows got no answer")
    rows: int = Field(description="the number of rows")


class Shift(Value):
    """How far the numbers of an answer moved: the largest distance of a row, over all rows."""

    unit: Literal["probability", "standard deviation"] = Field(
        description="of values and scores: the standard deviation of the values before"
    )
    mean: float = Field(description="of all rows, in `unit`")
    percentile_99: float = Field(description="99 of 100 rows moved by no more")
    max: float = Field(description="of the row that moved most")
    histogram: tuple[int, ...] = Field(description="the number of rows in each of ten equal steps from 0 to `max`")


class AnswerGroup(Value):
    """What both images answered to rows of one origin.

    `reference` rows are the held-out rows of the contract, `golden` ones are in a contract, `between` ones were made.
    """

    origin: Literal["reference", "golden", "between"]
    rows: int = Field(description="the number of rows that the image before answered")
    labels_changed: int | None = Field(description="with those that got no answer now; null if there are no labels")
    unanswered: int = Field(default=0, description="the number of these rows that got no answer now")
    label_pairs: tuple[LabelPair, ...] = Field(default=(), description="the 144 most frequent ones")
    label_changes: tuple[LabelChange, ...] = Field(default=(), description="the first 20; none of rows between")
    shift: Shift | None = Field(default=None, description="null if the model gives no probabilities, values or scores")

    @computed_field(description="the share of rows with another label or no answer")  # type: ignore[prop-decorator]
    @property
    def changed_percent(self) -> float:
        """The share of rows with another label or no answer, in percent."""
        return round(100 * max(self.labels_changed or 0, self.unanswered) / self.rows, 3)


class RetypedFeature(Value):
    """A feature whose type changed, each type in words."""

    name: str
    before: str
    after: str


class SchemaChanges(Value):
    """What a client has to change. All is empty if nothing changed."""

    task_before: str
    task_after: str
    features_added: tuple[str, ...] = ()
    features_removed: tuple[str, ...] = ()
    features_retyped: tuple[RetypedFeature, ...] = ()
    features_moved: tuple[str, ...] = Field(default=(), description="in another place of a row that is a list")
    labels_added: tuple[Label, ...] = ()
    labels_removed: tuple[Label, ...] = ()


class Pair(Value):
    """A measurement of the image before, and of this one."""

    before: int | float = Field(description="of the image before")
    after: int | float = Field(description="of this image")

    @computed_field(description="how many times what it was; 1 if it was 0")  # type: ignore[prop-decorator]
    @property
    def ratio(self) -> float:
        """How many times what it was; 1 if it was 0."""
        return round(self.after / self.before, 3) if self.before else 1.0


class Drift(Value):
    """The comparison with the image before. `reason` says why nothing, or no answer, was compared."""

    image: str = Field(default="", description="the image before: its repository, tag and digest; empty if none")
    digest: str = Field(default="", description="empty if no image was found")
    reason: str = Field(default="", description="why no answers were compared; empty if they were")
    notes: tuple[str, ...] = Field(default=(), description="what could not be asked, in sentences")
    rows_asked: int = Field(default=0, description="the number of rows that were sent to both")
    groups: tuple[AnswerGroup, ...] = Field(default=(), description="the first one is judged")
    schema_changes: SchemaChanges | None = Field(default=None, description="null if the schema before is not known")
    median_seconds: Pair | None = Field(default=None, description="of an answer to one row")
    compressed_bytes: Pair | None = Field(default=None, description="of what is pulled")
    # Of the image before. Only the difference is written.
    findings_before: tuple[Finding, ...] | None = Field(default=None, exclude=True)
    findings_new: tuple[Finding, ...] | None = Field(
        default=None, description="advisories that do not apply to the image before; null if it was not scanned"
    )
    findings_gone: tuple[Finding, ...] | None = Field(
        default=None, description="advisories that apply to the image before alone; null if it was not scanned"
    )
