"""The order of `promote`: verify, copy byte for byte, read back, tag last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing

from drydock import checks
from drydock.checks import verification
from drydock.errors import RegistryError, UsageError
from drydock.oci import registry, tags
from drydock.oci.reference import Reference
from drydock.oci.registry import Descriptor, Manifest, Repository, tagging
from drydock.oci.tags import ImageTags
from drydock.pipeline.plan import Plan
from drydock.pipeline.published import with_credentials
from drydock.pipeline.recorder import ProgressListener, track_stage
from drydock.pipeline.run import Connect
from drydock.pipeline.verify import verify_image
from drydock.report import Assessment, CheckResult, Verdict
from drydock.tools import attestations, cosign, revision
from drydock.tools.cosign import Verified

# How many documents that were not copied a report names.
MAX_LEFT = 10


async def promote(
    plan: Plan, source: Reference, target: Reference, connect: Connect, listener: ProgressListener
) -> Assessment:
    """Verify an image, then copy it and what verified of it, byte for byte, and tag it last; nothing is rebuilt."""
    plan = with_credentials(plan, source.repository, target.repository)
    tag = target.tag or source.tag
    name = revision.parse_tag(tag, source="the promoted tag") if tag else ImageTags(tag="")
    # This tag is no version and no commit, so there is nothing to compare it with.
    promised = name.tag if name.is_version or name.tag.startswith(tags.COMMIT_PREFIX) else ""
    verified = await verify_image(plan, source, [source.tag, promised], connect, listener)
    assessment, digest = verified.assessment, verified.digest
    if assessment.exit_code:
        return assessment
    _require_official_images(assessment, source, target)
    async with (
        registry.open_repository(source.repository, plan.source_login, listener.message) as here,
        registry.open_repository(target.repository, plan.login, listener.message) as there,
    ):
        copied, left = await track_stage(listener, "copy", _copy_verified(here, there, digest, verified.trusted))
        listed = {entry.digest for entry in await there.list_referrers(digest)}
        if not listed.issuperset(copied) or await there.get_digest(digest) != digest:
            raise RegistryError(
                f"{target.repository} does not list all that belongs to {digest}",
                likely_cause="something else writes to the list of its referrers at the same time",
                next_step="run again; what is there already is not sent twice",
            )
        unmoved: Mapping[str, str] = {}
        if name.tag:
            moving_tags = plan.policy.image.moving_tags
            tagged = await track_stage(
                listener, "tag", tagging.apply_tags(there, digest, name, moving_tags=moving_tags)
            )
            unmoved = tagged.unmoved
    results = (*assessment.checks, _describe_copy(copied, left), *checks.check_moving_tags(unmoved))
    return Assessment(checks=results, conclusion=f"promoted   {Reference(target.repository, name.tag, digest)}")


def _require_official_images(assessment: Assessment, source: Reference, target: Reference) -> None:
    """Raise UsageError if an image on local base images would leave this machine."""
    is_local = any(
        result.name == verification.BASE_IMAGES and result.verdict is Verdict.WARN for result in assessment.checks
    )
    if is_local and not registry.is_local(target.repository.partition("/")[0]):
        raise UsageError(
            f"{source} was built on local base images and cannot leave this machine",
            likely_cause="it was built on a machine that reaches no container registry",
            next_step="let a machine with the official images release it, then promote that",
        )


async def _copy_verified(
    here: Repository, there: Repository, digest: str, trusted: Verified
) -> tuple[set[str], tuple[Descriptor, ...]]:
    """Copy an image and what was verified of it; the digests of the latter, and what was left.

    Raises RegistryError if something that verified is not there any more.
    """
    verified: list[Manifest] = []
    left: list[Descriptor] = []
    missing = set(trusted.envelopes)
    async with aclosing(
        here.list_attachments(digest, (cosign.BUNDLE_MEDIA_TYPE, cosign.SBOM_MEDIA_TYPE))
    ) as attachments:
        async for each in attachments:
            bundle = cosign.parse_bundle(each.document)
            envelope = bundle.envelope if bundle else ""
            if each.manifest and (envelope in trusted.envelopes or attestations.is_sbom(each.document, trusted)):
                verified.append(each.manifest)
                missing.discard(envelope)
            else:
                left.append(each.entry)
    if missing:
        raise RegistryError(
            f"{here.display_name} does not serve all that verified of {digest}",
            likely_cause="something else wrote to the list of its referrers since, or made it too long to be read",
            next_step="look at what refers to the image (oras discover), remove what is not yours, then run again",
        )
    await here.copy(digest, there, verified)
    return {manifest.digest for manifest in verified}, tuple(left)


def _describe_copy(copied: set[str], left: Sequence[Descriptor]) -> CheckResult:
    """How much of what refers to an image was copied; a warning names the rest."""
    reason = "no trusted signer vouches for it"
    details = [f"left {entry.digest}, {entry.artifact_type[:100] or 'of no type'}: {reason}" for entry in left]
    if len(details) > MAX_LEFT:
        details = [*details[:MAX_LEFT], f"left {len(details) - MAX_LEFT} more"]
    return CheckResult(
        name="copied",
        measured=f"1 image, {len(copied)} of {len(copied) + len(left)} referrers",
        limit="",
        verdict=Verdict.WARN if left else Verdict.PASS,
        details=tuple(details),
    )
