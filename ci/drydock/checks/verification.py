"""Judges a published image by what its builders signed: a line for each thing that a stranger has to believe. Pure."""

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
WORLD = "base images"
UNVOUCHED = "nobody vouches for this tag: it may lead to any image that was ever signed; name a version or a digest"
NEVER = datetime.min.replace(tzinfo=UTC)
REVISION_LABEL = "org.opencontainers.image.revision"


@dataclass(frozen=True)
class Evidence:
    """What was found about one image: its own labels, and what of its signature and statements verified.

    `tags` are those that it was named by, or is to get.
    """

    digest: str
    labels: Mapping[str, str]
    verified: Verified
    tags: tuple[str, ...] = ()


def judge(evidence: Evidence, policy: Policy, *, trust: Trust, source: str, now: datetime) -> tuple[CheckResult, ...]:
    """Every line, in the order in which trust is built: who signed, what they built from, what they measured.

    `trust` says whose word counts and `source`, a web address, whose code may have been built. The verdict's facts are
    judged anew, against `policy`: an image may have passed a softer one.
    """
    by_key = isinstance(trust, PublicKey)
    report = _verdict(evidence)
    # An ignore that ended since the scan lets nothing through any more.
    policy = policy.model_copy(update={"ignore": [each for each in policy.ignore if each.expires >= now.date()]})
    return (
        _signature(evidence, by_key=by_key),
        _provenance(evidence, policy, source, by_key=by_key),
        *(_tag_row(evidence, tag) for tag in evidence.tags),
        _model(evidence, report),
        _verdict_row(evidence, report, policy),
        _age(report, policy, now),
        _sbom(evidence),
        _world(report),
    )


def identity(source: str, trusted: TrustSection) -> str:
    """A regular expression for the identities of the trusted workflows, as GitHub puts them into certificates."""
    signers = "|".join(map(_pattern, trusted.signers))
    return rf"^{re.escape(source)}/\.github/workflows/({signers})$"


def builder(verified: Verified, named: Collection[str]) -> str:
    """Who built the image, as the provenance says that is judged; empty where none says it."""
    try:
        return str((_provenance_of(verified, named) or {})["runDetails"]["builder"]["id"])
    except (KeyError, TypeError):
        return ""


def _pattern(signer: str) -> str:
    """A workflow and a ref, as a regular expression: in a ref a * stands for anything, in a workflow for one name."""
    # A branch may be called x@refs/tags/v1: the first @ has to be the one that ends the workflow's name.
    workflow, _, ref = signer.partition("@")
    return "@".join(
        anything.join(map(re.escape, part.split("*"))) for part, anything in ((workflow, "[^@/]*"), (ref, ".*"))
    )


def _signature(evidence: Evidence, *, by_key: bool) -> CheckResult:
    if reason := evidence.verified.signature_failure:
        return _row("signature", "none that holds", Verdict.FAIL, reason)
    signer = "the trusted key" if by_key else "a trusted workflow"
    return _row("signature", f"by {signer}", Verdict.PASS)


def _provenance(evidence: Evidence, policy: Policy, source: str, *, by_key: bool) -> CheckResult:
    name = "provenance"
    predicate = _provenance_of(evidence.verified, evidence.tags)
    if predicate is None:
        return _none(name, evidence, cosign.PROVENANCE)
    try:
        definition, builder = predicate["buildDefinition"], predicate["runDetails"]["builder"]["id"]
        uri, commit = str(definition["externalParameters"]["source"]["uri"]), attestations.commit(predicate)
    except (KeyError, TypeError, AttributeError):
        return _row(name, "of another form", Verdict.FAIL)
    complaints = []
    if not commit:
        complaints.append("built from a work tree that held more than a commit")
    elif commit != evidence.labels.get(REVISION_LABEL):
        complaints.append(f"the image says {evidence.labels.get(REVISION_LABEL) or 'no commit'}")
    if source and uri.removeprefix("git+") != source:
        complaints.append(f"built from {uri.removeprefix('git+')}, trusted is {source}")
    builders = identity(source, policy.trust)
    by_its_holder = by_key and builder == attestations.LOCAL_BUILDER
    if not by_its_holder and not (source and re.fullmatch(builders, builder)):
        complaints.append(f"built by {builder}, which trust in the policy does not name")
    measured = f"commit {commit[:12] or 'unknown'} by {builder}"
    if complaints:
        return _row(name, measured, Verdict.FAIL, *complaints)
    if not source:
        return _row(name, measured, Verdict.WARN, "no source to hold it against: set image.source in the policy")
    return _row(name, measured, Verdict.PASS)


def _tag_row(evidence: Evidence, tag: str) -> CheckResult:
    """A tag can be made to point to any image that is well signed; only its builder can say that it belongs there."""
    predicate = _provenance_of(evidence.verified, evidence.tags) or {}
    by_commit = tag.startswith(tags.COMMIT_PREFIX)
    measured = (
        f"built from {attestations.commit(predicate) or 'no commit'}"
        if by_commit
        else f"built as {attestations.tag(predicate) or 'none'}"
    )
    if not by_commit and not tags.looks_like_version(tag):
        return _row("tag", measured, Verdict.WARN, UNVOUCHED, limit=tag)
    if _fits(predicate, tag):
        return _row("tag", measured, Verdict.PASS, limit=tag)
    cause = "the tag points to another image than was released under it, or no provenance holds"
    return _row("tag", measured, Verdict.FAIL, cause, limit=tag)


def _model(evidence: Evidence, report: Report | None) -> CheckResult:
    name, labelled = "model", evidence.labels.get(MODEL_LABEL, "")
    if report is None or report.contract is None:
        return _row(name, "unknown", Verdict.FAIL, "no verdict that holds names it")
    judged = report.contract.artifact.sha256
    if judged != labelled:
        return _row(name, f"sha256 {labelled[:12] or 'not named'}", Verdict.FAIL, f"judged was {judged}")
    holdout = report.contract.holdout
    scores = ", ".join(f"{score} {units.figure(value)}" for score, value in holdout.scores.items())
    return _row(name, f"sha256 {judged[:12]}, {scores} on {holdout.rows} rows", Verdict.PASS)


def _verdict_row(evidence: Evidence, report: Report | None, policy: Policy) -> CheckResult:
    name = "verdict"
    if report is None:
        return _none(name, evidence, cosign.VERDICT)
    facts = Facts(report.image, report.smoke, report.scan, report.updates)
    rows = checks.judge(facts, policy)
    against = [row for row in rows if row.verdict in (Verdict.FAIL, Verdict.NOT_RUN)]
    measured = f"{len(rows) - len(against)} of {len(rows)} checks let it through"
    details = [f"{row.name}: {row.measured or row.verdict}, limit {row.limit or 'none'}" for row in against]
    return _row(name, measured, Verdict.FAIL if against else Verdict.PASS, *details)


def _age(report: Report | None, policy: Policy, now: datetime) -> CheckResult:
    name, limit = "last scan", f"{policy.trust.scan_max_days} days"
    if report is None or report.scan is None:
        return _row(name, "unknown", Verdict.FAIL, limit=limit)
    age = now - datetime.fromisoformat(report.scan.scanned_at)
    if age < -timedelta(hours=trivy.CLOCK_HOURS):
        cause = "the clock of this machine is behind, or that of the machine that scanned was ahead"
        return _row(name, "in the future", Verdict.FAIL, cause, limit=limit)
    days = max(age.days, 0)
    if days > policy.trust.scan_max_days:
        cure = "run its release's workflow again: the same digest is scanned and signed again"
        return _row(name, f"{days} days ago", Verdict.FAIL, cure, limit=limit)
    return _row(name, f"{days} days ago", Verdict.PASS, limit=limit)


def _sbom(evidence: Evidence) -> CheckResult:
    found = evidence.verified.statements.get(cosign.SBOM, ())
    components = found[-1].predicate.get("components") if found else None
    if not isinstance(components, list) or not components:
        return _none("SBOM", evidence, cosign.SBOM)
    return _row("SBOM", f"{len(components)} components", Verdict.PASS)


def _world(report: Report | None) -> CheckResult:
    if report is None:
        return _row(WORLD, "unknown", Verdict.FAIL)
    if report.images.base_images == "local":
        return _row(WORLD, "local", Verdict.WARN, "made on a machine without a container registry; no release")
    return _row(WORLD, "official", Verdict.PASS)


def _verdict(evidence: Evidence) -> Report | None:
    """The verdict of the latest scan; statements come in no order that says anything."""
    found = []
    for statement in evidence.verified.statements.get(cosign.VERDICT, ()):
        with suppress(ValueError):
            report = attestations.read_verdict(statement.predicate)
            # What was judged has to be what is served: a statement's subject is only what its signer says it is.
            if report.image and report.image.manifest_digest == evidence.digest:
                found.append(report)
    return max(found, key=_scanned, default=None)


def _scanned(report: Report) -> datetime:
    return datetime.fromisoformat(report.scan.scanned_at) if report.scan else NEVER


def _provenance_of(verified: Verified, named: Collection[str]) -> Mapping[str, Any] | None:
    """The latest provenance, of those that fit most of the tags; None where there is none."""
    found = [statement.predicate for statement in verified.statements.get(cosign.PROVENANCE, ())]
    return max(found, key=lambda each: (sum(_fits(each, tag) for tag in named), _started(each)), default=None)


def _fits(predicate: Mapping[str, Any], tag: str) -> bool:
    """Whether a provenance says that its image belongs under a tag: that version, or that commit."""
    if tag.startswith(tags.COMMIT_PREFIX):
        return tag == f"{tags.COMMIT_PREFIX}{attestations.commit(predicate)}" != tags.COMMIT_PREFIX
    return tags.looks_like_version(tag) and tags.is_tag_of_version(tag, attestations.tag(predicate))


def _started(predicate: Mapping[str, Any]) -> str:
    """When it was built; times of one form, in UTC, sort as their texts do."""
    try:
        return str(predicate["runDetails"]["metadata"]["startedOn"])
    except (KeyError, TypeError):
        return ""


def _none(name: str, evidence: Evidence, predicate_type: str) -> CheckResult:
    reason = evidence.verified.failures.get(predicate_type, "it is of another form, or about another image")
    return _row(name, "none that holds", Verdict.FAIL, reason)


def _row(name: str, measured: str, verdict: Verdict, *details: str, limit: str = "") -> CheckResult:
    return CheckResult(name=name, measured=measured, limit=limit, verdict=verdict, details=details)
