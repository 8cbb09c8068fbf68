"""The order of `verify`: read the image, verify what was signed about it, judge."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from drydock.checks import verification
from drydock.checks.verification import Evidence
from drydock.errors import UsageError
from drydock.oci import registry
from drydock.oci.reference import Reference
from drydock.oci.registry import Repository
from drydock.pipeline.plan import Plan
from drydock.pipeline.published import read_labels, resolve_digest, with_credentials
from drydock.pipeline.recorder import ProgressListener, track_stage
from drydock.pipeline.run import Connect
from drydock.report import Assessment, Verdict
from drydock.tools import cosign
from drydock.tools.cosign import Identity, Verified


@dataclass(frozen=True)
class VerifiedImage:
    """The assessment of an image, its digest, and all that anybody trusted signed about it."""

    assessment: Assessment
    digest: str
    trusted: Verified


async def verify(plan: Plan, image: Reference, connect: Connect, listener: ProgressListener) -> Assessment:
    """Judge one image by what its builders signed."""
    plan = with_credentials(plan, image.repository, plan.policy.image.repository)
    return (await verify_image(plan, image, [image.tag], connect, listener)).assessment


async def verify_image(
    plan: Plan, image: Reference, tags: Sequence[str], connect: Connect, listener: ProgressListener
) -> VerifiedImage:
    """Judge one image; each of `tags` must fit it. An empty tag is not compared."""
    names = tuple(dict.fromkeys(filter(None, tags)))
    async with registry.open_repository(image.repository, plan.source_login, listener.message) as repository:
        digest = await resolve_digest(repository, image)
        labels = await read_labels(repository, digest)
        if isinstance(plan.trust, Identity):
            await _require_identity(repository, image, digest)
    async with connect(plan, listener.message) as stages:
        verified = trusted = await track_stage(listener, "verify", stages.verify(image.repository, digest, plan.trust))
        builder = verification.find_builder(verified, names)
        if isinstance(plan.trust, Identity) and re.fullmatch(plan.trust.regexp, builder):
            # A statement says itself who built the image: only what that builder's own certificate signed may count.
            alone = cosign.trust_identity(builder, plan.trust.issuer)
            verified = await track_stage(listener, "builder", stages.verify(image.repository, digest, alone))
    evidence = Evidence(digest, labels, verified, names)
    results = verification.judge(evidence, plan.policy, trust=plan.trust, source=plan.source, now=datetime.now(UTC))
    failures = sum(result.verdict is Verdict.FAIL for result in results)
    name = Reference(image.repository, image.tag, digest)
    conclusion = f"refused    {failures} of {len(results)} lines fail for {name}" if failures else f"verified   {name}"
    return VerifiedImage(Assessment(checks=results, conclusion=conclusion), digest, trusted)


async def _require_identity(repository: Repository, image: Reference, digest: str) -> None:
    """Raise UsageError if keys signed all that is signed of an image: no identity can be verified then."""
    attachments = repository.list_attachments(digest, (cosign.BUNDLE_MEDIA_TYPE,))
    bundles = [bundle async for each in attachments if (bundle := cosign.parse_bundle(each.document))]
    if bundles and all(bundle.by_key for bundle in bundles):
        raise UsageError(
            f"{image} was signed with a key, and no public key was given to verify it",
            likely_cause="it was released on a laptop, and not by a workflow of GitHub Actions",
            next_step=(
                'give the public key of the releaser: --key FILE, or key = "cosign.pub" under [trust] in the policy'
            ),
        )
