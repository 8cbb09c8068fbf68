"""Judges how the running image serves: how soon it is ready, how fast it answers, and what it refuses."""

from __future__ import annotations

from drydock import report
from drydock.checks.check import Outcome, pass_if
from drydock.policy import Policy
from drydock.report import Verdict

NOT_READY = Outcome(Verdict.NOT_RUN, "", "", ("the image never became ready",))
NOT_ANSWERED = Outcome(Verdict.NOT_RUN, "", "", ("the image answered nothing",))


def check_startup(smoke: report.Smoke, policy: Policy) -> Outcome:
    """The container must be ready within the limit after its start. Exactly the limit passes."""
    if smoke.ready_seconds is None:
        return NOT_READY
    passed = smoke.ready_seconds <= policy.limits.ready_seconds
    cause = "the imports or the model take this long to load, or the machine is busy: measure again, load less, "
    details = () if passed else (f"{cause}or raise limits.ready_seconds",)
    return Outcome(pass_if(passed), f"{smoke.ready_seconds:g} s", f"{policy.limits.ready_seconds} s", details)


def check_latency(smoke: report.Smoke, policy: Policy) -> Outcome:
    """The slowest answer should be within the limit. A slower one is only a WARN, since the machine may be busy."""
    if smoke.ready_seconds is None:
        return NOT_READY
    if not any(answer.status for answer in smoke.answers):
        return NOT_ANSWERED
    slowest_ms = smoke.slowest_seconds * 1000
    within = slowest_ms <= policy.limits.latency_ms
    return Outcome(
        Verdict.PASS if within else Verdict.WARN,
        f"median {smoke.median_seconds * 1000:.0f} ms, slowest {slowest_ms:.0f} ms",
        f"{policy.limits.latency_ms} ms",
        () if within else ("the machine may be busy: measure again, or raise limits.latency_ms",),
    )


def check_malformed_requests(smoke: report.Smoke, _: Policy) -> Outcome:
    """Each malformed request must get a 4xx, since the client is at fault, not the server."""
    if smoke.ready_seconds is None:
        return NOT_READY
    sent = len(smoke.malformed)
    wrong = [
        f"{request.name}: {f'HTTP {request.status}' if request.status else 'no answer'}"
        for request in smoke.malformed
        if not 400 <= request.status < 500
    ]
    return Outcome(pass_if(sent > 0 and not wrong), f"{sent - len(wrong)} of {sent} with 4xx", str(sent), wrong)
