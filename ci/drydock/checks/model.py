"""Judges what the running image answers to the golden rows of its contract, and how good the model is."""

from __future__ import annotations

import json

from drydock import report
from drydock.checks.check import Outcome, pass_if
from drydock.policy import Policy
from drydock.report import Verdict
from drydock.report.model import is_same_label, label_text

MAX_TEXT_CHARACTERS = 40


def check_answers(smoke: report.Smoke, policy: Policy) -> Outcome:
    """Each golden row must get its recorded label and probabilities, or its value, within the contract's tolerance."""
    if smoke.ready_seconds is None:
        tail = smoke.log.splitlines()[-policy.limits.log_lines :]
        return Outcome(Verdict.FAIL, "not ready", f"{policy.limits.start_seconds} s", (smoke.not_ready, *tail))
    total = len(smoke.answers)
    complaints = (_describe_mistake(number, answer, smoke.tolerance) for number, answer in enumerate(smoke.answers, 1))
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


def _describe_mistake(number: int, answer: report.Answer, tolerance: float) -> str:
    expected = answer.expected
    row = f"golden row {number}"
    if isinstance(expected, report.GoldenRow):
        row = f"row [{', '.join(map(_shorten_feature, expected.features))}]"
    right = expected.value if expected.label is None else label_text(expected.label)
    if not 200 <= answer.status < 300:
        return f"{row}: expected {right}, got {f'HTTP {answer.status}' if answer.status else 'no answer'}"
    if expected.value is not None:
        if answer.value is None:
            return f"{row}: expected {right}, got an answer of another form"
        # NaN is within no tolerance.
        is_right = abs(answer.value - expected.value) <= tolerance
        return "" if is_right else f"{row}: expected {right}, got {answer.value}"
    if not is_same_label(answer.label, expected.label):
        if answer.label is None:
            return f"{row}: expected {right}, got an answer of another form"
        said = label_text(answer.label)
        # As JSON if the words are the same: "1" is not 1.
        pair = (right, said) if right != said else (json.dumps(expected.label), json.dumps(answer.label))
        return f"{row}: expected {pair[0]}, got {pair[1]}"
    if answer.probabilities.keys() != expected.probabilities.keys() or any(
        not abs(answer.probabilities[label] - probability) <= tolerance
        for label, probability in expected.probabilities.items()
    ):
        return f"{row}: expected probabilities {expected.probabilities}, got {answer.probabilities}"
    return ""


def _shorten_feature(value: float | str) -> str:
    """A feature as text. A long string is cut: the reader only has to find the row again."""
    if isinstance(value, str) and len(value) > MAX_TEXT_CHARACTERS:
        value = f"{value[: MAX_TEXT_CHARACTERS - 1]}…"
    return repr(value)
