"""The words that all renderings share: sizes, ages and scores for people, and foreign text made harmless."""

from __future__ import annotations

from collections.abc import Sequence

from drydock.report import MB, Drift, JudgedFinding, ModelDescription
from drydock.report.drift import AnswerGroup, LabelChange, Labels, SchemaChanges, Shift
from drydock.report.model import label_text

KB = 1_000
ROW_ORIGINS = {"reference": "held-out", "golden": "golden", "between": "between"}
# An old base image has hundreds of findings, and a log its 15 lines.
DETAILS_SHOWN = 20


def format_size(size_bytes: int) -> str:
    """Whole MB; whole kB below 1 MB; bytes below 1 kB, so that a small size is never 0."""
    for unit_bytes, unit in ((MB, "MB"), (KB, "kB")):
        # What would round to 1000 of a unit is 1 of the next.
        if abs(size_bytes) >= unit_bytes - unit_bytes // (2 * KB):
            return f"{round(size_bytes / unit_bytes)} {unit}"
    return f"{size_bytes} byte{'' if abs(size_bytes) == 1 else 's'}"


def format_against_limit(size_bytes: int, limit_bytes: int) -> str:
    """Whole MB, or exact bytes if rounding would hide on which side of the limit the size is."""
    rounded = round(size_bytes / MB)
    if (size_bytes <= limit_bytes) == (rounded * MB <= limit_bytes):
        return f"{rounded} MB"
    return f"{size_bytes:,} bytes"


def format_difference(size_bytes: int) -> str:
    """The size with its sign, a plus too."""
    return f"{'+' if size_bytes > 0 else ''}{format_size(size_bytes)}"


def format_number(value: float) -> str:
    """A number with three significant digits, or a whole one: 0.950, 44.1, 1,234."""
    return f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:#.3g}"


def format_score(name: str, value: float) -> str:
    """The score of a model for people: an accuracy in percent, else a number."""
    return f"{100 * value:.1f} %" if name == "accuracy" else format_number(value)


def list_features(contract: ModelDescription) -> list[str]:
    """The names of the features; one that is no number has its type beside it."""
    return [
        feature.name if feature.type == "number" else f"{feature.name} ({feature.type})"
        for feature in contract.features
    ]


def format_age(judged: JudgedFinding) -> str:
    """The age of the advisory; empty if it is not known."""
    if judged.age_days is None:
        return ""
    return f"{judged.age_days} day{'' if judged.age_days == 1 else 's'} old"


def describe_equivalence(contract: ModelDescription) -> str:
    """The rows on which a converted model equals the trained one; empty if it was not converted."""
    proved = contract.equivalence
    if proved is None:
        return ""
    return (
        f"{contract.runtime}, equivalent to the trained one on {proved.rows:,} rows: largest difference "
        f"{proved.max_abs_difference:g}, limit {contract.tolerance:g}"
    )


def format_labels(labels: Labels | None) -> str:
    """The label of an answer, or its labels; "no answer" if there was none."""
    if labels is None:
        return "no answer"
    return (", ".join(map(label_text, labels)) or "no label") if isinstance(labels, tuple) else label_text(labels)


def format_changed_rows(group: AnswerGroup) -> str:
    """How many rows got another label, or no answer if the model has no labels."""
    if group.labels_changed is None:
        return f"{group.unanswered} of {group.rows} unanswered"
    return f"{group.labels_changed} of {group.rows} changed"


def format_label_change(origin: str, change: LabelChange) -> str:
    """A row that got another label, by its number."""
    return f"{origin} row {change.row}: {format_labels(change.before)} → {format_labels(change.after)}"


def format_shift(shift: Shift) -> str:
    """The mean, the 99th percentile and the largest of a shift, with their unit."""
    unit = "of a standard deviation" if shift.unit == "standard deviation" else "of a probability"
    return f"shift {unit}: mean {shift.mean:.2g}, 99th percentile {shift.percentile_99:.2g}, largest {shift.max:.2g}"


def list_drift_facts(drift: Drift) -> list[str]:
    """What is known of a comparison besides its checks: rows, time, size, and findings."""
    facts = [f"{drift.rows_asked:,} rows asked"] if drift.rows_asked else []
    if seconds := drift.median_seconds:
        times = f"{1000 * seconds.before:.1f} → {1000 * seconds.after:.1f} ms"
        facts.append(f"median answer {times} ({seconds.ratio:.2f} times)")
    if size := drift.compressed_bytes:
        sizes = f"{format_size(round(size.before))} → {format_size(round(size.after))}"
        facts.append(f"to pull {sizes} ({size.ratio:.2f} times)")
    if drift.findings_new is not None and drift.findings_gone is not None:
        facts.append(f"findings: {len(drift.findings_new)} new, {len(drift.findings_gone)} gone")
    return facts


def list_schema_changes(changes: SchemaChanges) -> list[str]:
    """Each change of a schema in words."""
    moved = ", ".join(changes.features_moved)
    return [
        *([f"task: {changes.task_before} → {changes.task_after}"] if changes.task_before != changes.task_after else []),
        *(f"feature added: {name}" for name in changes.features_added),
        *(f"feature removed: {name}" for name in changes.features_removed),
        *(f"feature {each.name}: {each.before} → {each.after}" for each in changes.features_retyped),
        *([f"in another place of a list: {moved}"] if moved else []),
        *(f"label added: {label_text(label)}" for label in changes.labels_added),
        *(f"label removed: {label_text(label)}" for label in changes.labels_removed),
    ]


def shorten_details(details: Sequence[str]) -> list[str]:
    """The first details of a row, and how many more there are."""
    more = len(details[DETAILS_SHOWN:])
    return [*details[:DETAILS_SHOWN], *([f"{more} more, in report.json"] if more else [])]


def sanitize(words: str) -> str:
    """Text from an image or a tool as one line, without control characters."""
    return "".join(
        character if character.isprintable() else " " if character.isspace() else "\N{REPLACEMENT CHARACTER}"
        for character in words
    )
