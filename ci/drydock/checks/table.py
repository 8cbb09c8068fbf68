"""Judges facts against the policy. Pure: facts in, rows out; and the only room that makes an approval."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from drydock import report
from drydock.checks import findings
from drydock.errors import UsageError
from drydock.policy import Policy
from drydock.report import MB, CheckResult, Disposition, IgnoreState, Verdict

Fact = TypeVar("Fact")
DAYS_FROM_HOURS = 72
WORD_SHOWN = 40


@dataclass
class Facts:
    """What a run has learnt so far: None is what it could not learn, and `reasons` says why, by the stage's name."""

    image: report.Image | None = None
    smoke: report.Smoke | None = None
    scan: report.Scan | None = None
    updates: report.Updates | None = None
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Approval:
    """Leave to publish one archive, unchanged. Only `approve` makes one, so nothing unapproved can be published."""

    archive: report.Archive
    manifest_digest: str


def approve(archive: report.Archive, facts: Facts, rows: Sequence[CheckResult]) -> Approval | None:
    """Approve where something passed and nothing failed or was left out; no rows at all are never an approval.

    Nor is a run in which a stage broke, whatever the policy skips: its exit code is that stage's.
    """
    verdicts = {row.verdict for row in rows}
    if facts.reasons or facts.image is None:
        return None
    if Verdict.PASS not in verdicts or not verdicts <= {Verdict.PASS, Verdict.WARN, Verdict.SKIP}:
        return None
    return Approval(archive, facts.image.manifest_digest)


def require_known_skips(policy: Policy) -> None:
    """Raise UsageError where the policy skips a check that is not one of the house's."""
    names = [check.name for check in CHECKS]
    for skipped in policy.skip:
        if skipped not in names:
            nearest = difflib.get_close_matches(skipped, names, n=1, cutoff=0.4)
            raise UsageError(
                f"{policy.origins.get(f'skip.{skipped}', 'skip')}: there is no check {skipped!r} to skip",
                likely_cause=f"did you mean {nearest[0]!r}?"
                if nearest
                else f"the checks are {', '.join(map(repr, names))}",
                next_step="fix or remove that line, then run again",
            )


def judge(facts: Facts, policy: Policy) -> tuple[CheckResult, ...]:
    """Every check of the house, in the order in which people read them."""
    return tuple(check.row(facts, policy) for check in CHECKS)


def signed(signing: report.Signing) -> CheckResult:
    """Whether what was approved is signed, with all that a stranger needs to believe it; no gate, but a row of it."""
    name = "signed and attested"
    if signing.reason:
        return CheckResult(name=name, measured="", limit="", verdict=Verdict.SKIP, details=(signing.reason,))
    return CheckResult(
        name=name,
        measured=", ".join(signing.attached),
        limit="",
        verdict=Verdict.PASS,
        details=(f"by {signing.signed_by}",),
    )


def unmoved(reasons: Mapping[str, str]) -> tuple[CheckResult, ...]:
    """A warning of tags that stay where they are, each with its reason; nothing if all of them moved."""
    if not reasons:
        return ()
    details = [f"{tag}: {reason}" for tag, reason in reasons.items()]
    way_out = "if the registry lets no tag move: moving_tags = false under [image] gives none"
    return (
        CheckResult(
            name="moving tags",
            measured=f"{', '.join(reasons)} {'stays where it is' if len(reasons) == 1 else 'stay where they are'}",
            limit="",
            verdict=Verdict.WARN,
            details=(*details, way_out),
        ),
    )


@dataclass(frozen=True)
class Outcome:
    """How one check came out, before it has its name."""

    verdict: Verdict
    measured: str
    limit: str
    details: Iterable[str] = ()
    location: str = ""


NOT_READY = Outcome(Verdict.NOT_RUN, "", "", ("the image never got ready to be asked",))
NOT_ANSWERED = Outcome(Verdict.NOT_RUN, "", "", ("the image answered nothing",))


@dataclass(frozen=True)
class Check(Generic[Fact]):
    """A check: its name in plain words, the stages whose facts it needs, how it finds them and how it judges them."""

    name: str
    stages: tuple[str, ...]
    needs: Callable[[Facts], Fact | None]
    judge: Callable[[Fact, Policy], Outcome]

    def row(self, facts: Facts, policy: Policy) -> CheckResult:
        """Judge, unless the policy skips this check or its facts are missing."""
        if reason := policy.skip.get(self.name):
            return CheckResult(name=self.name, measured="", limit="", verdict=Verdict.SKIP, details=(reason,))
        fact = self.needs(facts)
        if fact is None:
            reasons = [facts.reasons[stage] for stage in self.stages if stage in facts.reasons]
            reasons += [f"{stage} broke before it" for stage in facts.reasons]
            reason = reasons[0] if reasons else "the run ended before it"
            return CheckResult(name=self.name, measured="", limit="", verdict=Verdict.NOT_RUN, details=(reason,))
        outcome = self.judge(fact, policy)
        return CheckResult(
            name=self.name,
            measured=outcome.measured,
            limit=outcome.limit,
            verdict=outcome.verdict,
            details=tuple(outcome.details),
            location=outcome.location,
        )


def answers(smoke: report.Smoke, policy: Policy) -> Outcome:
    """Every golden row gets its recorded label, and probabilities, or the value, within the contract's tolerance."""
    if smoke.ready_seconds is None:
        tail = smoke.log.splitlines()[-policy.limits.log_lines :]
        return Outcome(Verdict.FAIL, "not ready", f"{policy.limits.start_seconds} s", (smoke.not_ready, *tail))
    asked = len(smoke.answers)
    complaints = (_complaint(number, answer, smoke.tolerance) for number, answer in enumerate(smoke.answers, 1))
    wrong = [complaint for complaint in complaints if complaint]
    return Outcome(_pass_if(asked > 0 and not wrong), f"{asked - len(wrong)} of {asked} rows", str(asked), wrong[:3])


def startup(smoke: report.Smoke, policy: Policy) -> Outcome:
    """From its start to its first answer on /readyz the container took at most the limit; the limit itself passes."""
    if smoke.ready_seconds is None:
        return NOT_READY
    passed = smoke.ready_seconds <= policy.limits.ready_seconds
    cause = "the imports or the model take this long to load, or the machine is busy: measure again, load less, "
    details = () if passed else (f"{cause}or raise limits.ready_seconds",)
    return Outcome(_pass_if(passed), f"{smoke.ready_seconds:g} s", f"{policy.limits.ready_seconds} s", details)


def latency(smoke: report.Smoke, policy: Policy) -> Outcome:
    """How long an answer took beside the budget: told, and no reason to reject, since it is this machine's time too."""
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
        () if within else ("on a busy machine this says little; measure again, or raise limits.latency_ms",),
    )


def malformed(smoke: report.Smoke, _: Policy) -> Outcome:
    """A request that no client should send gets a 4xx: the caller's fault is never the server's."""
    if smoke.ready_seconds is None:
        return NOT_READY
    sent = len(smoke.malformed)
    wrong = [
        f"{request.name}: {f'HTTP {request.status}' if request.status else 'no answer'}"
        for request in smoke.malformed
        if not 400 <= request.status < 500
    ]
    return Outcome(_pass_if(sent > 0 and not wrong), f"{sent - len(wrong)} of {sent} with 4xx", str(sent), wrong)


def non_root(fact: tuple[report.Image, report.Smoke], _: Policy) -> Outcome:
    """The configured user is a number other than 0, and so is the uid at run time.

    A name would do for Docker, but Kubernetes' runAsNonRoot can only prove a number, and any name may be uid 0.
    """
    image, smoke = fact
    configured = image.user.split(":")[0]
    uid = "unknown" if smoke.uid is None else str(smoke.uid)
    is_number = re.fullmatch("0*[1-9][0-9]*", configured) is not None
    passed = is_number and smoke.uid not in (None, 0)
    cure = "end the Dockerfile with a numeric user other than 0, such as USER 10001:10001"
    if is_number and smoke.uid is None:
        cure = "its uid at run time could not be asked: keep `id` in the image, and let a process of this user start"
    return Outcome(_pass_if(passed), f"USER {image.user or 'not set'}, uid {uid}", "not 0", () if passed else (cure,))


def image_size(image: report.Image, policy: Policy) -> Outcome:
    """The sum of the uncompressed layers is at most the limit; the limit itself passes."""
    limit_bytes = policy.limits.image_size_mb * MB
    passed = image.size_bytes <= limit_bytes
    everything = (owner for layer in image.layers for owner in layer.largest)
    details = [] if passed else [f"largest: {_contributors(everything)}"]
    if image.waste and not passed:
        details.append(f"waste: {_wasted(image)}")
    return Outcome(_pass_if(passed), megabytes(image.size_bytes, limit_bytes), f"{limit_bytes // MB} MB", details)


def largest_layer(image: report.Image, policy: Policy) -> Outcome:
    """No layer is over the limit; the limit itself passes."""
    limit_bytes = policy.limits.layer_size_mb * MB
    if not image.layers:
        return Outcome(Verdict.FAIL, "no layers", f"{limit_bytes // MB} MB", ("there is nothing in the image",))
    layer = max(image.layers, key=lambda layer: layer.size_bytes)
    passed = layer.size_bytes <= limit_bytes
    measured, limit = megabytes(layer.size_bytes, limit_bytes), f"{limit_bytes // MB} MB"
    if passed:
        return Outcome(Verdict.PASS, measured, limit)
    instruction = layer.created_by or "an instruction that the image does not name"
    place = f"{policy.build.dockerfile}:{layer.dockerfile_line}" if layer.dockerfile_line else ""
    cause = f"{instruction} ({place})" if place else instruction
    words = f"{cause}: {_contributors(layer.largest)}. Split the layer, or drop some of it."
    return Outcome(Verdict.FAIL, measured, limit, (words,), place)


def wasted_space(image: report.Image, policy: Policy) -> Outcome:
    """What is stored for nothing is at most the limit: removed, replaced, or there twice. The limit itself passes."""
    limit_bytes = policy.limits.waste_mb * MB
    passed = image.wasted_bytes <= limit_bytes
    cure = "Remove a file in the instruction that writes it, and copy it once."
    details = () if passed else (f"{_wasted(image)}. {cure}",)
    return Outcome(_pass_if(passed), megabytes(image.wasted_bytes, limit_bytes), f"{limit_bytes // MB} MB", details)


def coverage(scan: report.Scan, _: Policy) -> Outcome:
    """The scanner saw the packages that are there; where it did not, the scan is no scan (`trivy.covered`)."""
    seen = len(scan.locked_packages) - len(scan.unseen_packages)
    system = f"{scan.os_family} {scan.os_version}".strip() or "no system"
    return Outcome(
        _pass_if(bool(scan.os_packages) and not scan.unseen_packages),
        f"{seen} locked, {scan.os_packages} of {system}",
        f"{len(scan.locked_packages)} locked",
    )


def canary(scan: report.Scan, _: Policy) -> Outcome:
    """The scanner found what was hidden for it in an image known to be vulnerable (`trivy.require_canary`)."""
    hidden = scan.canary.expected
    found = len(hidden) - len(scan.canary.missed)
    return Outcome(
        _pass_if(bool(hidden) and found == len(hidden)), f"{found} of {len(hidden)} hidden", str(len(hidden))
    )


def advisories(scan: report.Scan, policy: Policy) -> Outcome:
    """The advisories are of today; where they are too old, the scan is no scan (`trivy.require_recent`)."""
    age_hours = scan.database_age_hours
    measured = f"{age_hours:.0f} h old" if age_hours < DAYS_FROM_HOURS else f"{age_hours / 24:.0f} days old"
    limit = f"{policy.scan.database_max_hours} h"
    if scan.database_is_sample:
        words = "a sample of this machine's own, which says little about the image: the result is no release"
        return Outcome(Verdict.WARN, measured, "none", (words,))
    if age_hours > policy.scan.database_max_hours:
        return Outcome(Verdict.FAIL, measured, limit)
    if age_hours > policy.scan.database_warn_hours:
        words = f"older than {policy.scan.database_warn_hours} h: {scan.database_source} was not renewed"
        return Outcome(Verdict.WARN, measured, limit, (words,))
    return Outcome(Verdict.PASS, measured, limit)


def vulnerabilities(scan: report.Scan, policy: Policy) -> Outcome:
    """No finding of the policy's severities, but for what is ignored or, where the policy says so, has no fix yet."""
    judged = findings.judge(scan, policy)
    by_disposition = {
        disposition: [each for each in judged if each.disposition is disposition] for disposition in Disposition
    }
    rejecting = by_disposition[Disposition.REJECTS]
    details = [findings.in_words(each) for each in rejecting]
    if set(policy.scan.severities) != {"HIGH", "CRITICAL"}:
        details.append(f"only {', '.join(policy.scan.severities)} counts, as scan.severities in the policy says")
    for disposition, words in ((Disposition.IGNORED, "ignored"), (Disposition.UNFIXED, "without a fix yet")):
        if count := len(by_disposition[disposition]):
            details.append(f"{count} {words}, listed below")
    return Outcome(_pass_if(not rejecting), f"{len(rejecting)} in {scan.package_count} packages", "0", details)


def ignores_in_order(scan: report.Scan, policy: Policy) -> Outcome:
    """Every ignore of the policy hides something; an expired one hides nothing, and a dead one had nothing to hide."""
    ignores = findings.judge_ignores(scan, policy)
    stale = [ignore for ignore in ignores if ignore.state is not IgnoreState.ACTIVE]
    stale_verdict = Verdict.FAIL if policy.scan.unused_ignores == "reject" else Verdict.WARN
    words = {
        IgnoreState.EXPIRED: "{subject} expired on {expires}: {owner} fixes it, or says again why not",
        IgnoreState.UNUSED: "{subject} matches nothing: remove it, {owner}",
    }
    return Outcome(
        stale_verdict if stale else Verdict.PASS,
        f"{len(ignores) - len(stale)} of {len(ignores)} in use",
        str(len(ignores)),
        [words[each.state].format(subject=each.subject, expires=each.expires, owner=each.owner) for each in stale],
        policy.origins.get(f"ignore.{ignores.index(stale[0])}.id", "") if stale else "",
    )


def pending_updates(updates: report.Updates, policy: Policy) -> Outcome:
    """The distribution has no security update for what is in the image: a second opinion beside the scanner's."""
    verdict = Verdict.FAIL if policy.scan.pending_updates == "reject" else Verdict.WARN
    if updates.reason:
        # What could not be asked is no failure of the image, and where the answer is demanded no pass either.
        unasked = Verdict.NOT_RUN if policy.scan.pending_updates == "reject" else Verdict.WARN
        return Outcome(unasked, "" if unasked is Verdict.NOT_RUN else "not asked", "0", (updates.reason,))
    pending = updates.security
    details = [f"{each.package} {each.installed_version} → {each.available_version}" for each in pending]
    if details:
        details.append("take a newer base image, or upgrade in the Dockerfile")
    return Outcome(verdict if pending else Verdict.PASS, f"{len(pending)} pending", "0", details)


def secrets(scan: report.Scan, policy: Policy) -> Outcome:
    """No token or key in a layer, the environment or the history, but for those that the policy ignores one by one."""
    judged = findings.judge_secrets(scan, policy)
    rejecting = sum(each.disposition is Disposition.REJECTS for each in judged)
    details = [findings.secret_in_words(each) for each in judged]
    return Outcome(_pass_if(not rejecting), f"{rejecting} found", "0", details)


CHECKS: tuple[Check[Any], ...] = (
    Check("answers /predict as trained", ("smoke",), lambda facts: facts.smoke, answers),
    Check("starts in time", ("smoke",), lambda facts: facts.smoke, startup),
    Check("answers in time", ("smoke",), lambda facts: facts.smoke, latency),
    Check("refuses malformed requests", ("smoke",), lambda facts: facts.smoke, malformed),
    Check(
        "runs as non-root",
        ("inspect", "smoke"),
        lambda facts: (facts.image, facts.smoke) if facts.image and facts.smoke else None,
        non_root,
    ),
    Check("image size", ("inspect",), lambda facts: facts.image, image_size),
    Check("largest layer", ("inspect",), lambda facts: facts.image, largest_layer),
    Check("wasted space", ("inspect",), lambda facts: facts.image, wasted_space),
    Check("scanner covers every package", ("scan", "coverage"), lambda facts: facts.scan, coverage),
    Check("scanner passes its self-test", ("scan", "coverage"), lambda facts: facts.scan, canary),
    Check("advisories are recent", ("scan", "coverage"), lambda facts: facts.scan, advisories),
    Check("HIGH or CRITICAL", ("scan", "coverage"), lambda facts: facts.scan, vulnerabilities),
    Check("no expired or unused ignores", ("scan", "coverage"), lambda facts: facts.scan, ignores_in_order),
    Check("no security update pending", ("pending-updates",), lambda facts: facts.updates, pending_updates),
    Check("secrets in the image", ("scan", "coverage"), lambda facts: facts.scan, secrets),
)


def megabytes(size_bytes: int, limit_bytes: int) -> str:
    """Whole MB, but to the byte where rounding would hide on which side of the limit it lies."""
    rounded = round(size_bytes / MB)
    if (size_bytes <= limit_bytes) == (rounded * MB <= limit_bytes):
        return f"{rounded} MB"
    return f"{size_bytes:,} bytes"


def _complaint(number: int, answer: report.Answer, tolerance: float) -> str:
    expected = answer.expected
    row = f"golden row {number}"
    if isinstance(expected, report.GoldenRow):
        row = f"row [{', '.join(map(_feature, expected.features))}]"
    right = expected.label if expected.value is None else expected.value
    if not 200 <= answer.status < 300:
        return f"{row}: expected {right}, got {f'HTTP {answer.status}' if answer.status else 'no answer'}"
    if expected.value is not None:
        if answer.value is None:
            return f"{row}: expected {right}, got an answer of another form"
        # NaN is within no tolerance.
        is_right = abs(answer.value - expected.value) <= tolerance
        return "" if is_right else f"{row}: expected {right}, got {answer.value}"
    if answer.label != expected.label:
        return f"{row}: expected {expected.label}, got {answer.label or 'an answer of another form'}"
    if answer.probabilities.keys() != expected.probabilities.keys() or any(
        not abs(answer.probabilities[label] - probability) <= tolerance
        for label, probability in expected.probabilities.items()
    ):
        return f"{row}: expected probabilities {expected.probabilities}, got {answer.probabilities}"
    return ""


def _feature(value: float | str) -> str:
    """A golden row may hold whole texts, and only has to be found again."""
    if isinstance(value, str) and len(value) > WORD_SHOWN:
        value = f"{value[: WORD_SHOWN - 1]}…"
    return repr(value)


def _pass_if(condition: bool) -> Verdict:
    return Verdict.PASS if condition else Verdict.FAIL


def _wasted(image: report.Image) -> str:
    """The largest pieces of what is stored for nothing, each with what became of it."""
    largest = [(each.path, each.why, round(each.size_bytes / MB)) for each in image.waste[:4]]
    return ", ".join(f"/{path} {why} {size} MB" for path, why, size in largest if size) or "many small files"


def _contributors(contributors: Iterable[report.Contributor]) -> str:
    largest = sorted(contributors, key=lambda owner: owner.size_bytes, reverse=True)[:4]
    shares = [(owner.name, round(owner.size_bytes / MB)) for owner in largest]
    return ", ".join(f"{name} {share} MB" for name, share in shares if share) or "many small files"
