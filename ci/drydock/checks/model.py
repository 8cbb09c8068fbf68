"""Judges what the running image answers to the golden rows of its contract, and how good the model is."""

from __future__ import annotations

import json
from collections.abc import Mapping

from drydock import report
from drydock.checks.check import Outcome, pass_if
from drydock.policy import Policy
from drydock.report import Verdict
from drydock.report.model import FeatureValue, is_same_label, label_text

MAX_TEXT_CHARACTERS = 40


def check_answers(smoke: report.Smoke, policy: Policy) -> Outcome:
    """Each golden row must get its recorded label and probabilities, or its value, within the contract's tolerance."""
    if smoke.ready_seconds is None:
        tail = smoke.log.splitlines()[-policy.limits.log_lines :]
        return Outcome(Verdict.FAIL, "not ready", f"{policy.limits.start_seconds} s", (smoke.not_ready, *tail))
    total = len(smoke.answers)
    complaints = [_describe_mistake(number, answer, smoke) for number, answer in enumerate(smoke.answers, 1)]
    wrong = [complaint for complaint in complaints if complaint]
    return Outcome(pass_if(total > 0 and not wrong), f"{total - len(wrong)} of {total} rows", str(total), wrong[:3])


def check_quality(model: report.ModelDescription, policy: Policy) -> Outcome:
    """Each score that the policy limits must be within its limit, on the held-out rows of the contract."""
    holdout = model.holdout
    limits = [(name, limit, ">=") for name, limit in policy.quality.min.items()]
    limits += [(name, limit, "<=") for name, limit in policy.quality.max.items()]
    if not limits:
        scores = ", ".join(_format_score(holdout, name) for name in holdout.main_scores)
        return Outcome(Verdict.SKIP, "", "", (f"[quality] has no limit; {scores} on {holdout.rows} rows",))
    details = []
    for name, limit, sign in limits:
        score = holdout.scores.get(name)
        if score is None:
            details.append(f"the contract has no {name}; it has {', '.join(holdout.scores)}")
        # NaN is within no limit.
        elif not (score >= limit if sign == ">=" else score <= limit):
            details.append(f"{_format_score(holdout, name)}, limit {sign} {limit:g}")
    known = [_format_score(holdout, name) for name, _, _ in limits if name in holdout.scores]
    return Outcome(
        pass_if(not details),
        f"{', '.join(known) or 'no such score'} on {holdout.rows} rows",
        ", ".join(f"{sign} {limit:g}" for _, limit, sign in limits),
        details,
    )


def _format_score(holdout: report.Holdout, name: str) -> str:
    score = f"{name.replace('_', ' ')} {holdout.scores[name]:g}"
    if name not in holdout.intervals:
        return score
    low, high = holdout.intervals[name]
    return f"{score} ({low:g} to {high:g})"


def _describe_mistake(number: int, answer: report.Answer, smoke: report.Smoke) -> str:
    expected = answer.expected
    row = f"golden row {number}"
    if isinstance(expected, report.GoldenRow):
        row = f"row [{', '.join(map(_format_feature, expected.features))}]"
    if not 200 <= answer.status < 300:
        got = f"HTTP {answer.status}" if answer.status else "no answer"
        return f"{row}: expected {_format_answer(expected)}, got {got}"
    if (answer.answer_fields, answer.values.keys()) != (expected.answer_fields, expected.values.keys()):
        return f"{row}: expected {_format_answer(expected)}, got an answer of another form"
    if not is_same_label(answer.label, expected.label) or not is_same_label(answer.labels, expected.labels):
        said, right = _format_answer(answer), _format_answer(expected)
        # As JSON if the words are the same: "1" is not 1.
        if right == said:
            right, said = (json.dumps(each.labels if each.label is None else each.label) for each in (expected, answer))
        return f"{row}: expected {right}, got {said}"
    if not _are_near(answer.probabilities, expected.probabilities, smoke.tolerance):
        return f"{row}: expected probabilities {expected.probabilities}, got {answer.probabilities}"
    for name, value in expected.values.items():
        if not _are_near({"": answer.values[name]}, {"": value}, smoke.output_tolerances.get(name, 0.0)):
            return f"{row}: expected {name} {value}, got {answer.values[name]}"
    if not _are_near({"": answer.score}, {"": expected.score}, smoke.tolerance):
        return f"{row}: expected the score {expected.score}, got {answer.score}"
    if not _are_near({"": answer.value}, {"": expected.value}, smoke.tolerance):
        return f"{row}: expected {expected.value}, got {answer.value}"
    return ""


def _format_answer(answer: report.GoldenAnswer) -> str:
    """The label, the labels or the values of an answer."""
    if answer.label is not None:
        return label_text(answer.label)
    if answer.labels is not None:
        return ", ".join(map(label_text, answer.labels)) or "no label"
    return str(answer.values or answer.value)


def _are_near(actual: Mapping[str, float | None], expected: Mapping[str, float | None], tolerance: float) -> bool:
    """Whether both have the same numbers within the tolerance. NaN is within no tolerance."""
    return actual.keys() == expected.keys() and all(
        value is None or ((number := actual[name]) is not None and abs(number - value) <= tolerance)
        for name, value in expected.items()
    )


def _format_feature(value: FeatureValue) -> str:
    """A feature as JSON has it. A long string is cut: the reader only has to find the row again."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str) and len(value) > MAX_TEXT_CHARACTERS:
        value = f"{value[: MAX_TEXT_CHARACTERS - 1]}…"
    return repr(value)
