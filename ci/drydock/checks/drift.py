"""Judges how far the answers and the schema of an image are from those of the image before."""

from __future__ import annotations

from typing import Literal

from drydock import report
from drydock.checks.check import Outcome
from drydock.policy import Policy
from drydock.report import Verdict, units

NO_SCHEMA = "the image before does not say which features it takes"


def check_answers(drift: report.Drift, policy: Policy) -> Outcome:
    """At most so many rows may have another label or no answer. The mean shift of their numbers has a limit as well."""
    if not drift.groups:
        return Outcome(Verdict.SKIP, "", "", (drift.reason, *drift.notes))
    judged, limits = drift.groups[0], policy.drift
    measured, allowed, details = [], [], []
    verdict = Verdict.PASS
    if judged.labels_changed is not None or judged.unanswered:
        measured.append(units.format_changed_rows(judged))
        allowed.append(f"{limits.labels_changed_percent:g} %")
        if judged.changed_percent > limits.labels_changed_percent:
            verdict = _choose_verdict(limits.answers)
            details += [units.format_label_change(judged.origin, change) for change in judged.label_changes]
    if judged.shift:
        measured.append(f"shift {judged.shift.mean:.2g}")
        allowed.append(f"shift {limits.value_shift:g}")
        if judged.shift.mean > limits.value_shift:
            verdict = _choose_verdict(limits.answers)
            details.append(units.format_shift(judged.shift))
    return Outcome(verdict, ", ".join(measured), ", ".join(allowed), (*details, *drift.notes))


def check_schema(drift: report.Drift, policy: Policy) -> Outcome:
    """A client of the image before must need no change: the same task, features, types and labels."""
    if drift.schema_changes is None:
        return Outcome(Verdict.SKIP, "", "", (drift.reason or NO_SCHEMA,))
    changes = units.list_schema_changes(drift.schema_changes)
    verdict = _choose_verdict(policy.drift.schema_) if changes else Verdict.PASS
    return Outcome(verdict, f"{len(changes)} change{'' if len(changes) == 1 else 's'}", "0", changes)


def _choose_verdict(consequence: Literal["warn", "reject"]) -> Verdict:
    return Verdict.FAIL if consequence == "reject" else Verdict.WARN
