"""Judges facts against the policy. Pure: facts in, rows out; and the only room that makes an approval."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import report
from config import Policy
from errors import UsageError
from report import MB, Row, Verdict

Fact = TypeVar("Fact")


@dataclass
class Facts:
    """What a run has learnt so far: None is what it could not learn, and `reasons` says why, by the stage's name."""

    image: report.Image | None = None
    smoke: report.Smoke | None = None
    scan: report.Scan | None = None
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Approval:
    """Leave to publish one archive, unchanged. Only `approve` makes one, so nothing unapproved can be published."""

    archive: report.Archive
    manifest_digest: str


def approve(archive: report.Archive, image: report.Image | None, rows: Sequence[Row]) -> Approval | None:
    """Approve where something passed and nothing failed or was left out; no rows at all are never an approval."""
    verdicts = {row.verdict for row in rows}
    if image is None or Verdict.PASS not in verdicts or not verdicts <= {Verdict.PASS, Verdict.SKIP}:
        return None
    return Approval(archive, image.manifest_digest)


def require_known_skips(policy: Policy) -> None:
    """Raise UsageError where the policy skips a check that is not one of the house's."""
    names = [check.name for check in CHECKS]
    for skipped in policy.skip:
        if skipped not in names:
            nearest = difflib.get_close_matches(skipped, names, n=1, cutoff=0.4)
            raise UsageError(
                f"{policy.origins.get(f'skip.{skipped}', 'skip')}: there is no check {skipped!r} to skip",
                usually=f"did you mean {nearest[0]!r}?" if nearest else f"the checks are {', '.join(map(repr, names))}",
                next_step="mend or remove that line, then run again",
            )


def judge(facts: Facts, policy: Policy) -> tuple[Row, ...]:
    """Every check of the house, in the order in which people read them."""
    return tuple(check.row(facts, policy) for check in CHECKS)


@dataclass(frozen=True)
class Outcome:
    """How one check came out, before it has its name."""

    passed: bool
    measured: str
    limit: str
    details: Iterable[str] = ()


@dataclass(frozen=True)
class Check(Generic[Fact]):
    """A check: its name in plain words, the stages whose facts it needs, how it finds them and how it judges them."""

    name: str
    stages: tuple[str, ...]
    needs: Callable[[Facts], Fact | None]
    judge: Callable[[Fact, Policy], Outcome]

    def row(self, facts: Facts, policy: Policy) -> Row:
        """Judge, unless the policy skips this check or its facts are missing."""
        if reason := policy.skip.get(self.name):
            return Row(name=self.name, measured="", limit="", verdict=Verdict.SKIP, details=(reason,))
        fact = self.needs(facts)
        if fact is None:
            reasons = [facts.reasons[stage] for stage in self.stages if stage in facts.reasons]
            reasons += [f"{stage} broke before it" for stage in facts.reasons]
            reason = reasons[0] if reasons else "the run ended before it"
            return Row(name=self.name, measured="", limit="", verdict=Verdict.NOT_RUN, details=(reason,))
        outcome = self.judge(fact, policy)
        return Row(
            name=self.name,
            measured=outcome.measured,
            limit=outcome.limit,
            verdict=Verdict.PASS if outcome.passed else Verdict.FAIL,
            details=tuple(outcome.details),
        )


def answers(smoke: report.Smoke, policy: Policy) -> Outcome:
    """Every golden row gets its recorded label, and probabilities within the contract's tolerance."""
    if smoke.ready_seconds is None:
        tail = smoke.log.splitlines()[-policy.limits.log_lines :]
        return Outcome(False, "not ready", f"{policy.limits.start_seconds} s", (smoke.not_ready, *tail))
    asked = len(smoke.answers)
    wrong = [complaint for answer in smoke.answers if (complaint := _complaint(answer, smoke.tolerance))]
    return Outcome(asked > 0 and not wrong, f"{asked - len(wrong)} of {asked} rows", str(asked), wrong[:3])


def malformed(smoke: report.Smoke, _: Policy) -> Outcome:
    """A request that is not JSON gets a 4xx: the caller's fault is never the server's."""
    got = f"HTTP {smoke.malformed_status}" if smoke.malformed_status else "no answer"
    return Outcome(400 <= smoke.malformed_status < 500, got, "4xx")


def non_root(fact: tuple[report.Image, report.Smoke], _: Policy) -> Outcome:
    """The configured user is a number other than 0, and so is the uid at run time.

    A name would do for Docker, but Kubernetes' runAsNonRoot can only prove a number, and any name may be uid 0.
    """
    image, smoke = fact
    configured = image.user.split(":")[0]
    uid = "unknown" if smoke.uid is None else str(smoke.uid)
    passed = configured.isdecimal() and int(configured) != 0 and smoke.uid not in (None, 0)
    cure = () if passed else ("end the Dockerfile with a numeric user other than 0, such as USER 10001:10001",)
    return Outcome(passed, f"USER {image.user or 'not set'}, uid {uid}", "not 0", cure)


def image_size(image: report.Image, policy: Policy) -> Outcome:
    """The sum of the uncompressed layers is at most the limit; the limit itself passes."""
    limit_bytes = policy.limits.image_size_mb * MB
    passed = image.size_bytes <= limit_bytes
    everything = (owner for layer in image.layers for owner in layer.largest)
    details = () if passed else (f"largest: {_contributors(everything)}",)
    return Outcome(passed, megabytes(image.size_bytes, limit_bytes), f"{policy.limits.image_size_mb} MB", details)


def largest_layer(image: report.Image, policy: Policy) -> Outcome:
    """No layer is over the limit; the limit itself passes."""
    limit_bytes = policy.limits.layer_size_mb * MB
    layer = max(image.layers, key=lambda layer: layer.size_bytes)
    passed = layer.size_bytes <= limit_bytes
    instruction = layer.created_by or "an instruction that the image does not name"
    details = (
        () if passed else (f"{instruction}: {_contributors(layer.largest)}. Split the layer, or drop some of it.",)
    )
    return Outcome(passed, megabytes(layer.size_bytes, limit_bytes), f"{policy.limits.layer_size_mb} MB", details)


def coverage(scan: report.Scan, _: Policy) -> Outcome:
    """The scanner saw the packages that are there; where it did not, the scan is no scan (`trivy.require_coverage`)."""
    seen = len(scan.locked_packages) - len(scan.unseen_packages)
    system = f"{scan.os_family} {scan.os_version}".strip() or "no system"
    return Outcome(
        bool(scan.os_packages) and not scan.unseen_packages,
        f"{seen} locked, {scan.os_packages} of {system}",
        f"{len(scan.locked_packages)} locked",
    )


def vulnerabilities(scan: report.Scan, policy: Policy) -> Outcome:
    """No finding of the policy's severities; one without a fix counts only where the policy says `reject`."""
    severe = [found for found in scan.findings if found.severity in policy.scan.severities]
    counted = [found for found in severe if found.fixed_version or policy.scan.unfixed == "reject"]
    details = [_finding(found) for found in counted]
    if left := len(severe) - len(counted):
        details.append(f"{left} more without a fix yet, listed in report.json")
    return Outcome(not counted, f"{len(counted)} in {scan.package_count} packages", "0", details)


def secrets(scan: report.Scan, _: Policy) -> Outcome:
    """No token or key in a layer, the environment or the history."""
    details = [f"{found.rule} in {found.target}" for found in scan.secrets]
    return Outcome(not scan.secrets, f"{len(scan.secrets)} found", "0", details)


CHECKS: tuple[Check[Any], ...] = (
    Check("answers /predict as trained", ("smoke",), lambda facts: facts.smoke, answers),
    Check("refuses a malformed request", ("smoke",), lambda facts: facts.smoke, malformed),
    Check(
        "runs as non-root",
        ("inspect", "smoke"),
        lambda facts: (facts.image, facts.smoke) if facts.image and facts.smoke else None,
        non_root,
    ),
    Check("image size", ("inspect",), lambda facts: facts.image, image_size),
    Check("largest layer", ("inspect",), lambda facts: facts.image, largest_layer),
    Check("scanner saw what is inside", ("scan", "coverage"), lambda facts: facts.scan, coverage),
    Check("HIGH or CRITICAL", ("scan", "coverage"), lambda facts: facts.scan, vulnerabilities),
    Check("secrets in the image", ("scan", "coverage"), lambda facts: facts.scan, secrets),
)


def megabytes(size_bytes: int, limit_bytes: int) -> str:
    """Whole MB, but to the byte where rounding would hide on which side of the limit it lies."""
    rounded = round(size_bytes / MB)
    if (size_bytes <= limit_bytes) == (rounded * MB <= limit_bytes):
        return f"{rounded} MB"
    return f"{size_bytes:,} bytes"


def _complaint(answer: report.Answer, tolerance: float) -> str:
    expected = answer.expected
    row = f"row {list(expected.features)}"
    if not 200 <= answer.status < 300:
        return f"{row}: expected {expected.label}, got {f'HTTP {answer.status}' if answer.status else 'no answer'}"
    if answer.label != expected.label:
        return f"{row}: expected {expected.label}, got {answer.label}"
    if answer.probabilities.keys() != expected.probabilities.keys() or any(
        not abs(answer.probabilities[label] - probability) <= tolerance
        for label, probability in expected.probabilities.items()
    ):
        return f"{row}: expected probabilities {expected.probabilities}, got {answer.probabilities}"
    return ""


def _finding(found: report.Finding) -> str:
    cure = f"fixed in {found.fixed_version}" if found.fixed_version else "no fix yet"
    return f"{found.id} {found.severity} {found.package} {found.installed_version}, {cure}"


def _contributors(contributors: Iterable[report.Contributor]) -> str:
    largest = sorted(contributors, key=lambda owner: owner.size_bytes, reverse=True)[:4]
    shares = [(owner.name, round(owner.size_bytes / MB)) for owner in largest]
    return ", ".join(f"{name} {share} MB" for name, share in shares if share) or "many small files"
