"""A check: a name, the fact that it needs, and a function that judges this fact by the policy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from drydock import report
from drydock.policy import Policy
from drydock.report import CheckResult, Verdict

Fact = TypeVar("Fact")


@dataclass
class Facts:
    """The facts of a run so far. A missing fact is None; `reasons` has the reason for each stage that failed."""

    image: report.Image | None = None
    smoke: report.Smoke | None = None
    scan: report.Scan | None = None
    updates: report.Updates | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    model: report.ModelDescription | None = None
    drift: report.Drift | None = None


@dataclass(frozen=True)
class Outcome:
    """The result of a check without the check's name."""

    verdict: Verdict
    measured: str
    limit: str
    details: Iterable[str] = ()
    location: str = ""


@dataclass(frozen=True)
class Input(Generic[Fact]):
    """The fact that a check needs, and the stages that give it."""

    stages: tuple[str, ...]
    select: Callable[[Facts], Fact | None]


@dataclass(frozen=True)
class Check(Generic[Fact]):
    """A check: its name in plain words, its input and its function."""

    name: str
    input: Input[Fact]
    function: Callable[[Fact, Policy], Outcome]

    def judge(self, facts: Facts, policy: Policy) -> CheckResult:
        """Judge the fact. The result is SKIP if the policy says so, and NOT RUN if the fact is missing."""
        if reason := policy.skip.get(self.name):
            return CheckResult(name=self.name, measured="", limit="", verdict=Verdict.SKIP, details=(reason,))
        fact = self.input.select(facts)
        if fact is None:
            reasons = [facts.reasons[stage] for stage in self.input.stages if stage in facts.reasons]
            reasons += [f"{stage} broke before it" for stage in facts.reasons]
            reason = reasons[0] if reasons else "the run ended before it"
            return CheckResult(name=self.name, measured="", limit="", verdict=Verdict.NOT_RUN, details=(reason,))
        outcome = self.function(fact, policy)
        return CheckResult(
            name=self.name,
            measured=outcome.measured,
            limit=outcome.limit,
            verdict=outcome.verdict,
            details=tuple(outcome.details),
            location=outcome.location,
        )


def pass_if(condition: bool) -> Verdict:
    """PASS if the condition holds, otherwise FAIL."""
    return Verdict.PASS if condition else Verdict.FAIL
