"""Compares two images' schemas and their answers to the same rows. Pure: rows and answers go in, values come out."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from drydock.report import Drift, Finding, GoldenAnswer, Scan
from drydock.report.drift import AnswerGroup, LabelChange, LabelPair, Labels, RetypedFeature, SchemaChanges, Shift
from drydock.report.model import is_same_label
from drydock.tools.predict_client import RowAnswer

MAX_ROWS = 3_000
# Of all rows together: with very many features there are fewer rows.
MAX_VALUES = 2_000_000
MAX_CHANGES = 20
MAX_LABEL_PAIRS = 144
HISTOGRAM_STEPS = 10
# A number that is further away says no more, and would have no mean.
MAX_SHIFT = 1e9
MAX_NAMES = 5

Origin = Literal["reference", "golden", "between"]
ORIGINS: tuple[Origin, ...] = ("reference", "golden", "between")
T = TypeVar("T")


@dataclass(frozen=True)
class Feature:
    """A feature of a contract. An unknown type is empty."""

    name: str
    type: str = ""
    values: tuple[object, ...] = ()
    missing: bool = False

    @property
    def description(self) -> str:
        """Its type in words. The values of a category may be somebody's data, so only their number is said."""
        words = f"{self.type} of {len(self.values)} values" if self.values else self.type
        return f"{words}, may be missing" if self.missing else words


@dataclass(frozen=True)
class Schema:
    """What a client has to know of a model: the features of a request and the labels of an answer."""

    features: tuple[Feature, ...]
    labels: tuple[Any, ...] = ()
    task: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features, in the model's order."""
        return tuple(feature.name for feature in self.features)


def create_schema(contract: Mapping[str, Any]) -> Schema:
    """The schema of a contract, as JSON. A feature is an object, or a name alone; then its type is not known."""
    labels = tuple(each for each in contract.get("labels") or () if isinstance(each, str | bool | int | float))
    return Schema(tuple(map(_parse_feature, contract["features"])), labels, str(contract.get("task") or ""))


def parse_schema(contract: object) -> Schema | None:
    """The schema of what should be a contract; None if it is none. Any image may be the one before."""
    if not isinstance(contract, dict):
        return None
    try:
        schema = create_schema(contract)
    except (AttributeError, LookupError, TypeError, ValueError):
        return None
    return schema if schema.features and len(set(schema.names)) == len(schema.features) else None


def _parse_feature(written: Any) -> Feature:  # noqa: ANN401 - whatever JSON can say
    if isinstance(written, str):
        return Feature(written)
    values = tuple(written.get("values") or ())
    return Feature(str(written["name"]), str(written["type"]), values, written.get("missing") is True)


def compare_schemas(before: Schema, after: Schema) -> SchemaChanges:
    """What a client of the image before has to change."""
    old, new = ({feature.name: feature for feature in schema.features} for schema in (before, after))
    common = [name for name in new if name in old]
    return SchemaChanges(
        task_before=before.task,
        task_after=after.task,
        features_added=tuple(name for name in new if name not in old),
        features_removed=tuple(name for name in old if name not in new),
        features_retyped=tuple(
            RetypedFeature(name=name, before=old[name].description, after=new[name].description)
            for name in common
            if old[name].type and new[name].type and _type_key(old[name]) != _type_key(new[name])
        ),
        features_moved=tuple(
            name for name, was in zip(common, [name for name in old if name in new], strict=True) if name != was
        ),
        labels_added=tuple(label for label in after.labels if not _contains(before.labels, label)),
        labels_removed=tuple(label for label in before.labels if not _contains(after.labels, label)),
    )


def _type_key(feature: Feature) -> tuple[object, ...]:
    return feature.type, frozenset(map(json.dumps, feature.values)), feature.missing


def _contains(labels: Sequence[object], label: object) -> bool:
    return any(is_same_label(label, each) for each in labels)


@dataclass(frozen=True)
class Row:
    """A row that both images are asked: its origin, its number there from 1, and its values by name."""

    origin: Origin
    number: int
    names: tuple[str, ...]
    values: tuple[object, ...]


def collect_rows(
    after: Schema, reference: Sequence[Sequence[object]], golden: Sequence[Sequence[object]], before: object
) -> tuple[Row, ...]:
    """The reference and the golden rows of a contract, and the golden rows of `before`, what should be a contract."""
    rows: list[Row] = []
    rows += (Row("reference", number, after.names, tuple(each)) for number, each in enumerate(reference, 1))
    rows += (Row("golden", number, after.names, tuple(each)) for number, each in enumerate(golden, 1))
    if isinstance(before, dict) and (schema := parse_schema(before)):
        written = before.get("golden")
        objects = [each for each in written if isinstance(each, dict)] if isinstance(written, list) else []
        features = [each.get("features") for each in objects]
        whole = [each for each in features if isinstance(each, list) and len(each) == len(schema.names)]
        rows += (Row("golden", number, schema.names, tuple(each)) for number, each in enumerate(whole, len(golden) + 1))
    return tuple(rows)


def choose_rows(before: Schema, after: Schema, rows: Sequence[Row]) -> tuple[Row, ...]:
    """Those of the rows that both images can be asked, each once, and rows between neighbours; at most MAX_ROWS.

    A row can be asked if it has every feature of both. The first rows are kept.
    """
    needed = {*before.names, *after.names}
    limit = min(MAX_ROWS, max(1, MAX_VALUES // len(needed)))
    unique: dict[tuple[tuple[str, ...], str], Row] = {}

    def add(row: Row) -> None:
        if len(unique) < limit and needed.issubset(row.names):
            unique.setdefault((row.names, json.dumps(row.values)), row)

    for row in rows:
        add(row)
    types = {feature.name: feature.type for feature in after.features}
    for number, (first, second) in enumerate(pairwise(list(unique.values())), 1):
        if first.names == second.names:
            add(Row("between", number, first.names, _interpolate(first, second, types)))
    return tuple(unique.values())


def describe_skipped_rows(before: Schema, after: Schema, rows: Sequence[Row]) -> str:
    """How many rows cannot be asked, and the features that they lack; empty if all can be."""
    needed = dict.fromkeys((*before.names, *after.names))
    left = sum(not needed.keys() <= set(row.names) for row in rows)
    if not left:
        return ""
    missing = [name for name in needed if name not in before.names or name not in after.names]
    names = ", ".join(missing[:MAX_NAMES]) + (f" and {len(missing) - MAX_NAMES} more" if missing[MAX_NAMES:] else "")
    return f"{left} of {len(rows)} rows were not asked: they lack a feature that only one image knows ({names})"


def _interpolate(first: Row, second: Row, types: Mapping[str, str]) -> tuple[object, ...]:
    """The values between two rows: the midpoint of numbers, of anything else the second row's."""
    return tuple(
        _midpoint(one, other, types.get(name, ""))
        for name, one, other in zip(first.names, first.values, second.values, strict=True)
    )


def _midpoint(one: object, other: object, type_: str) -> object:
    if type_ == "number" and _is_number(one) and _is_number(other):
        # Their sum may be too large.
        return one / 2 + other / 2  # type: ignore[operator]
    if type_ == "integer" and _is_number(one) and _is_number(other):
        return (one + other) // 2  # type: ignore[operator]
    return one if other is None else other


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def select_values(row: Row, schema: Schema) -> list[object]:
    """The row as a list for an image with this schema: its features, in its order."""
    values = dict(zip(row.names, row.values, strict=True))
    return [values[name] for name in schema.names]


def parse_prediction(written: object) -> GoldenAnswer | None:
    """A prediction in an answer of /predict; None if it is in none of the forms that a task has."""
    try:
        answer = GoldenAnswer.model_validate(written, extra="ignore")
    except ValidationError:
        return None
    return answer if answer.answer_fields else None


def conclude(
    drift: Drift, rows: Sequence[Row], before: Sequence[RowAnswer | None], after: Sequence[RowAnswer | None]
) -> Drift:
    """Add what was compared: the groups of answers, or the reason why there are none, and what was not asked."""
    answers = zip(rows, before, after, strict=True)
    asked = [(row, was, now) for row, was, now in answers if was is not None and now is not None]
    groups = compare_answers(
        [row for row, _, _ in asked],
        [parse_prediction(was.prediction) for _, was, _ in asked],
        [parse_prediction(now.prediction) for _, _, now in asked],
    )
    statuses = Counter(was.status for _, was, _ in asked if parse_prediction(was.prediction) is None)
    notes = list(drift.notes)
    reason = ""
    if not groups:
        reason = f"the image before {_describe_status(statuses.most_common(1)[0][0] if statuses else 0)}"
    elif statuses:
        [(status, _)] = statuses.most_common(1)
        refused = f"{statuses.total()} of {len(asked)} rows"
        notes.append(f"the image before {_describe_status(status)} for {refused}; they are not compared")
    if groups and len(asked) < len(rows):
        notes.append(f"{len(rows) - len(asked)} of {len(rows)} rows were not asked: time was up")
    return drift.model_copy(
        update={"rows_asked": len(asked), "groups": groups, "reason": reason, "notes": tuple(notes)}
    )


def _describe_status(status: int) -> str:
    if not status:
        return "gave no answer in time"
    if 200 <= status < 300:
        return "gave an answer that is no prediction"
    return f"answered HTTP {status}"


def compare_answers(
    rows: Sequence[Row], before: Sequence[GoldenAnswer | None], after: Sequence[GoldenAnswer | None]
) -> tuple[AnswerGroup, ...]:
    """What changed in the answers to the rows that the image before answered, in groups by their origin.

    A row that it answered, and this image does not, or in another form, has another label. A distance is between two
    numbers of one name: of probabilities as it is, of others as a share of their standard deviation before.
    """
    answered = [
        (row, was, now if now and _share_form(was, now) else None)
        for row, was, now in zip(rows, before, after, strict=True)
        if was
    ]
    scales = _measure_scales([was for _, was, _ in answered])
    groups = (
        _compare_group(origin, [each for each in answered if each[0].origin == origin], scales) for origin in ORIGINS
    )
    return tuple(group for group in groups if group)


def _get_labels(answer: GoldenAnswer) -> Labels | None:
    return answer.labels if answer.label is None else answer.label


def _get_numbers(answer: GoldenAnswer) -> dict[str, float]:
    """The probabilities by label, the values by name, or the one value or score."""
    one = {name: number for name in ("value", "score") if (number := getattr(answer, name)) is not None}
    return answer.probabilities or answer.values or one


def _share_form(was: GoldenAnswer, now: GoldenAnswer) -> bool:
    """Whether something of both can be compared."""
    common = was.answer_fields & now.answer_fields
    return bool(common - {"values"} or was.values.keys() & now.values.keys())


def _measure_scales(before: Sequence[GoldenAnswer]) -> dict[str, float]:
    """The length of one unit of each number."""
    if any(each.probabilities for each in before):
        return {}
    numbers: dict[str, list[float]] = {}
    for each in before:
        for name, number in _get_numbers(each).items():
            numbers.setdefault(name, []).append(number)
    # Numbers that never differ have no deviation, so they count by their own size.
    return {name: statistics.pstdev(values) or max(map(abs, values)) or 1.0 for name, values in numbers.items()}


def _compare_group(
    origin: Origin, answered: Sequence[tuple[Row, GoldenAnswer, GoldenAnswer | None]], scales: Mapping[str, float]
) -> AnswerGroup | None:
    if not answered:
        return None
    labelled = [
        (row, label, _get_labels(now) if now else None)
        for row, was, now in answered
        if (label := _get_labels(was)) is not None
    ]
    changed = [(row, was, now) for row, was, now in labelled if not is_same_label(was, now)]
    numbers = [(_get_numbers(was), _get_numbers(now)) for _, was, now in answered if now]
    is_probability = any(was.probabilities for _, was, _ in answered)
    shifts = [
        _measure_shift(was, now, scales, was.keys() | now.keys() if is_probability else was.keys() & now.keys())
        for was, now in numbers
        if was and now
    ]
    return AnswerGroup(
        origin=origin,
        rows=len(answered),
        labels_changed=len(changed) if labelled else None,
        unanswered=sum(now is None for _, _, now in answered),
        label_pairs=_count_pairs([(was, now) for _, was, now in labelled]),
        # Nobody can look a row up that was made.
        label_changes=tuple(
            LabelChange(row=row.number, before=was, after=now)
            for row, was, now in (changed[:MAX_CHANGES] if origin != "between" else ())
        ),
        shift=_summarize_shifts(shifts, "probability" if is_probability else "standard deviation"),
    )


def _count_pairs(labels: Sequence[tuple[Labels, Labels | None]]) -> tuple[LabelPair, ...]:
    # As JSON, since True is 1 to Python.
    counts = Counter(json.dumps(pair) for pair in labels)
    by_text = {json.dumps(pair): pair for pair in labels}
    return tuple(
        LabelPair(before=by_text[text][0], after=by_text[text][1], rows=count)
        for text, count in counts.most_common(MAX_LABEL_PAIRS)
    )


def _measure_shift(
    was: Mapping[str, float], now: Mapping[str, float], scales: Mapping[str, float], names: Collection[str]
) -> float:
    """The largest distance of a row's numbers. A label that one image does not know has the probability 0 there."""
    distances = (abs(now.get(name, 0.0) - was.get(name, 0.0)) / scales.get(name, 1.0) for name in names)
    return min(max(distances), MAX_SHIFT)


def _summarize_shifts(shifts: Sequence[float], unit: Literal["probability", "standard deviation"]) -> Shift | None:
    if not shifts:
        return None
    ordered, largest = sorted(shifts), max(shifts)
    steps = [min(int(HISTOGRAM_STEPS * each / largest), HISTOGRAM_STEPS - 1) if largest else 0 for each in ordered]
    return Shift(
        unit=unit,
        mean=statistics.fmean(ordered),
        percentile_99=ordered[math.ceil(0.99 * len(ordered)) - 1],
        max=largest,
        histogram=tuple(steps.count(step) for step in range(HISTOGRAM_STEPS)),
    )


def compare_findings(drift: Drift | None, scan: Scan | None) -> Drift | None:
    """Add what the scanner finds in this image alone, and in the image before alone; as it is if one is not scanned."""
    if drift is None or drift.findings_before is None or scan is None:
        return drift
    return drift.model_copy(
        update={
            "findings_new": _subtract(scan.findings, drift.findings_before),
            "findings_gone": _subtract(drift.findings_before, scan.findings),
        }
    )


def _subtract(findings: Sequence[Finding], others: Sequence[Finding]) -> tuple[Finding, ...]:
    known = {(each.id, each.package) for each in others}
    return tuple(each for each in findings if (each.id, each.package) not in known)
