"""Judges a published image by its signed statements: one result for each thing that a user must trust. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from drydock import checks
from drydock.checks import Facts
from drydock.oci import tags
from drydock.policy import Policy, TrustSection
from drydock.report import CheckResult, Report, Verdict, units
from drydock.tools import attestations, cosign, trivy
from drydock.tools.cosign import PublicKey, Trust, Verified

MODEL_LABEL = "dev.drydock.model.sha256"
# GitHub, for its jobs: https://docs.github.com/actions/concepts/security/openid-connect
ISSUER = "https://token.actions.githubusercontent.com"
BASE_IMAGES = "base images"
UNVERIFIED_TAG = "nothing proves this tag: it may point to any signed image; name a version or a digest"
NEVER = datetime.min.replace(tzinfo=UTC)
REVISION_LABEL = "org.opencontainers.image.revision"


@dataclass(frozen=True)
class Evidence:
    """The evidence about one image: its labels, and its signature and statements that verified.

    `tags` are the tags that named it, or that it will get.
    """

    digest: str
    labels: Mapping[str, str]
    verified: Verified
    tags: tuple[str, ...] = ()


def judge(evidence: Evidence, policy: Policy, *, trust: Trust, source: str, now: datetime) -> tuple[CheckResult, ...]:
    """Judge the evidence. The results are in the order of trust: the signer, the source code, the measurements.

    `trust` is the trusted signer, and `source` the web address of the trusted code.
    The facts of the signed verdict are judged again by `policy`, since an older policy may have allowed more.
    """
    by_key = isinstance(trust, PublicKey)
    report = _find_latest_verdict(evidence)
    # An ignore may have expired since the scan.
    policy = policy.model_copy(update={"ignore": [each for each in policy.ignore if each.expires >= now.date()]})
    return (
        _check_signature(evidence, by_key=by_key),
        _check_provenance(evidence, policy, source, by_key=by_key),
        *(_check_tag(evidence, tag) for tag in evidence.tags),
        _check_model(evidence, report),
        _check_verdict(evidence, report, policy),
        _check_scan_age(report, policy, now),
        _check_sbom(evidence),
        _check_base_images(report),
    )


def identity_pattern(source: str, trusted: TrustSection) -> str:
    """A regular expression for the identities that GitHub writes into the certificates of the trusted workflows."""
    signers = "|".join(map(_signer_pattern, trusted.signers))
    return rf"^{re.escape(source)}/\.github/workflows/({signers})$"


def find_builder(verified: Verified, named: Collection[str]) -> str:
    """The builder that the judged provenance names. Empty if there is none."""
    try:
        return str((_find_provenance(verified, named) or {})["runDetails"]["builder"]["id"])
    except (KeyError, TypeError):
        return ""


def _signer_pattern(signer: str) -> str:
    """A regular expression for a workflow and its ref. In a ref, a * matches anything, in a workflow only one name."""
    # The name of a branch may contain @refs/tags/v1, so the first @ ends the name of the workflow.
    workflow, _, ref = signer.partition("@")
    return "@".join(
        anything.join(map(re.escape, part.split("*"))) for part, anything in ((workflow, "[^@/]*"), (ref, ".*"))
    )


def _check_signature(evidence: Evidence, *, by_key: bool) -> CheckResult:
    if reason := evidence.verified.signature_failure:
        return _create_result("signature", "none that verified", Verdict.FAIL, reason)
    signer = "the trusted key" if by_key else "a trusted workflow"
    return _create_result("signature", f"by {signer}", Verdict.PASS)


def _check_provenance(evidence: Evidence, policy: Policy, source: str, *, by_key: bool) -> CheckResult:
    name = "provenance"
    predicate = _find_provenance(evidence.verified, evidence.tags)
    if predicate is None:
        return _missing_statement(name, evidence, cosign.PROVENANCE)
    try:
        definition, builder = predicate["buildDefinition"], predicate["runDetails"]["builder"]["id"]
        uri, commit = str(definition["externalParameters"]["source"]["uri"]), attestations.read_commit(predicate)
    except (KeyError, TypeError, AttributeError):
        return _create_result(name, "of another form", Verdict.FAIL)
    complaints = []
    if not commit:
        complaints.append("built from a work tree with uncommitted changes")
    elif commit != evidence.labels.get(REVISION_LABEL):
        complaints.append(f"the image says {evidence.labels.get(REVISION_LABEL) or 'no commit'}")
    if source and uri.removeprefix("git+") != source:
        complaints.append(f"built from {uri.removeprefix('git+')}, trusted is {source}")
    builders = identity_pattern(source, policy.trust)
    by_its_holder = by_key and builder == attestations.LOCAL_BUILDER
    if not by_its_holder and not (source and re.fullmatch(builders, builder)):
        complaints.append(f"built by {builder}, which trust in the policy does not name")
    measured = f"commit {commit[:12] or 'unknown'} by {builder}"
    if complaints:
        return _create_result(name, measured, Verdict.FAIL, *complaints)
    if not source:
        return _create_result(
            name, measured, Verdict.WARN, "no source to compare it with: set image.source in the policy"
        )
    return _create_result(name, measured, Verdict.PASS)


def _check_tag(evidence: Evidence, tag: str) -> CheckResult:
    """Anybody who may push can move a tag to another signed image. Only the provenance proves where it belongs."""
    predicate = _find_provenance(evidence.verified, evidence.tags) or {}
    by_commit = tag.startswith(tags.COMMIT_PREFIX)
    measured = (
        f"built from {attestations.read_commit(predicate) or 'no commit'}"
        if by_commit
        else f"built as {attestations.read_tag(predicate) or 'none'}"
    )
    if not by_commit and not tags.looks_like_version(tag):
        return _create_result("tag", measured, Verdict.WARN, UNVERIFIED_TAG, limit=tag)
    if _provenance_fits(predicate, tag):
        return _create_result("tag", measured, Verdict.PASS, limit=tag)
    cause = "the tag points to another image than was released under it, or no provenance verified"
    return _create_result("tag", measured, Verdict.FAIL, cause, limit=tag)


def _check_model(evidence: Evidence, report: Report | None) -> CheckResult:
    name, labelled = "model", evidence.labels.get(MODEL_LABEL, "")
    if report is None or report.contract is None:
        return _create_result(name, "unknown", Verdict.FAIL, "no verified verdict names it")
    judged = report.contract.artifact.sha256
    if judged != labelled:
        return _create_result(name, f"sha256 {labelled[:12] or 'not named'}", Verdict.FAIL, f"judged was {judged}")
    holdout = report.contract.holdout
    scores = ", ".join(
        f"{score.replace('_', ' ')} {units.format_number(value)}" for score, value in holdout.main_scores.items()
    )
    return _create_result(name, f"sha256 {judged[:12]}, {scores} on {holdout.rows} rows", Verdict.PASS)


def _check_verdict(evidence: Evidence, report: Report | None, policy: Policy) -> CheckResult:
    name = "verdict"
    if report is None:
        return _missing_statement(name, evidence, cosign.VERDICT)
    facts = Facts(report.image, report.smoke, report.scan, report.updates, model=report.contract, drift=report.drift)
    results = checks.judge(facts, policy)
    against = [result for result in results if result.verdict in (Verdict.FAIL, Verdict.NOT_RUN)]
    measured = f"{len(results) - len(against)} of {len(results)} checks allow it"
    details = [
        f"{result.name}: {result.measured or result.verdict}, limit {result.limit or 'none'}" for result in against
    ]
    return _create_result(name, measured, Verdict.FAIL if against else Verdict.PASS, *details)


def _check_scan_age(report: Report | None, policy: Policy, now: datetime) -> CheckResult:
    name, limit = "last scan", f"{policy.trust.scan_max_days} days"
    if report is None or report.scan is None:
        return _create_result(name, "unknown", Verdict.FAIL, limit=limit)
    age = now - datetime.fromisoformat(report.scan.scanned_at)
    if age < -timedelta(hours=trivy.CLOCK_HOURS):
        cause = "the clock of this machine is behind, or that of the machine that scanned was ahead"
        return _create_result(name, "in the future", Verdict.FAIL, cause, limit=limit)
    days = max(age.days, 0)
    if days > policy.trust.scan_max_days:
        cure = "run its release's workflow again: the same digest is scanned and signed again"
        return _create_result(name, f"{days} days ago", Verdict.FAIL, cure, limit=limit)
    return _create_result(name, f"{days} days ago", Verdict.PASS, limit=limit)


def _check_sbom(evidence: Evidence) -> CheckResult:
    found = evidence.verified.statements.get(cosign.SBOM, ())
    components = found[-1].predicate.get("components") if found else None
    if not isinstance(components, list) or not components:
        return _missing_statement("SBOM", evidence, cosign.SBOM)
    return _create_result("SBOM", f"{len(components)} components", Verdict.PASS)


def _check_base_images(report: Report | None) -> CheckResult:
    if report is None:
        return _create_result(BASE_IMAGES, "unknown", Verdict.FAIL)
    if report.images.base_images == "local":
        return _create_result(
            BASE_IMAGES, "local", Verdict.WARN, "made on a machine without a container registry; no release"
        )
    return _create_result(BASE_IMAGES, "official", Verdict.PASS)


def _find_latest_verdict(evidence: Evidence) -> Report | None:
    """The verdict of the latest scan. The order of the statements has no meaning."""
    found = []
    for statement in evidence.verified.statements.get(cosign.VERDICT, ()):
        with suppress(ValueError):
            report = attestations.read_verdict(statement.predicate)
            # The signer chooses the subject of a statement. So the judged digest must be the served one.
            if report.image and report.image.manifest_digest == evidence.digest:
                found.append(report)
    return max(found, key=_scan_time, default=None)


def _scan_time(report: Report) -> datetime:
    return datetime.fromisoformat(report.scan.scanned_at) if report.scan else NEVER


def _find_provenance(verified: Verified, named: Collection[str]) -> Mapping[str, Any] | None:
    """The provenance that fits most of the tags, and of several the latest. None if there is none."""
    found = [statement.predicate for statement in verified.statements.get(cosign.PROVENANCE, ())]
    return max(
        found, key=lambda each: (sum(_provenance_fits(each, tag) for tag in named), _start_time(each)), default=None
    )


def _provenance_fits(predicate: Mapping[str, Any], tag: str) -> bool:
    """Whether a provenance names the version or the commit of a tag."""
    if tag.startswith(tags.COMMIT_PREFIX):
        return tag == f"{tags.COMMIT_PREFIX}{attestations.read_commit(predicate)}" != tags.COMMIT_PREFIX
    return tags.looks_like_version(tag) and tags.is_tag_of_version(tag, attestations.read_tag(predicate))


def _start_time(predicate: Mapping[str, Any]) -> str:
    """The start of the build, in UTC. Such times sort like text."""
    try:
        return str(predicate["runDetails"]["metadata"]["startedOn"])
    except (KeyError, TypeError):
        return ""


def _missing_statement(name: str, evidence: Evidence, predicate_type: str) -> CheckResult:
    reason = evidence.verified.failures.get(predicate_type, "it is of another form, or about another image")
    return _create_result(name, "none that verified", Verdict.FAIL, reason)


def _create_result(name: str, measured: str, verdict: Verdict, *details: str, limit: str = "") -> CheckResult:
    return CheckResult(name=name, measured=measured, limit=limit, verdict=verdict, details=details)
