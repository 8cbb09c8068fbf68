"""Finds the image before: the one that a new image is compared with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from semver import Version

from drydock.errors import RegistryError
from drydock.oci import registry, tags
from drydock.oci.layout import MALFORMED_JSON_ERRORS
from drydock.oci.media_types import DIGEST
from drydock.oci.reference import Reference, parse_reference
from drydock.oci.registry import Repository
from drydock.pipeline.plan import Plan
from drydock.pipeline.published import resolve_digest


@dataclass(frozen=True)
class PreviousImage:
    """The image before, by its digest; `reason` says why there is none."""

    reference: Reference | None = None
    reason: str = ""


async def find_previous(plan: Plan, on_retry: Callable[[str], None]) -> PreviousImage:
    """Find the image that the policy names, else the one under the tag that this run would move.

    Without such a tag it is the newest version, then the image of the last record. A registry that does not answer is a
    reason, and no error.
    """
    policy = plan.policy.drift
    if not policy.enabled:
        return PreviousImage(reason=f"{plan.policy.origins.get('drift.enabled', 'the policy')}: enabled = false")
    named = _parse_previous(policy.previous, plan.policy.image.repository)
    repository_name = named.repository if named else plan.policy.image.repository
    login = registry.choose_login(repository_name, plan.login, plan.source_login)
    try:
        # A run that pushes has asked already. Without a push nobody may need a registry, and waits for none.
        if not plan.push:
            await registry.require_answer(repository_name)
        async with registry.open_repository(repository_name, login, on_retry) as repository:
            if named:
                digest = await resolve_digest(repository, named)
                return PreviousImage(Reference(named.repository, named.tag, digest))
            return await _find_last(plan, repository)
    except RegistryError as error:
        return PreviousImage(reason=f"the image before was not found: {error.message}")


def _parse_previous(words: str, repository: str) -> Reference | None:
    """The image that the policy names: by its tag or its digest alone it is in the repository of this run."""
    if not words:
        return None
    if DIGEST.fullmatch(words):
        return Reference(repository, digest=words)
    return parse_reference(words) if "/" in words else Reference(repository, words)


async def _find_last(plan: Plan, repository: Repository) -> PreviousImage:
    name, image = plan.name, plan.policy.image
    moving = [*([name.branch] if name.branch else []), *tags.list_moving_tags(name.tag)] if image.moving_tags else []
    versions = sorted(filter(tags.is_version, await repository.list_tags()), key=Version.parse)
    releases = [version for version in versions if "-" not in version]
    for tag in (*moving, *(releases or versions)[-1:]):
        if digest := await repository.get_digest(tag):
            return PreviousImage(Reference(image.repository, tag, digest))
    for record in plan.published:
        if record.repository == image.repository and await repository.get_digest(record.digest):
            return PreviousImage(Reference(image.repository, record.tags[0] if record.tags else "", record.digest))
    return PreviousImage(reason=f"{image.repository} has no image before this one")


async def find_platform_digest(repository: Repository, digest: str, platform: str) -> str:
    """The digest of an image's manifest for a platform: the image itself, or what an index of several names.

    Raises RegistryError if it is an index without this platform.
    """
    manifest = await repository.get_manifest(digest)
    if manifest is None or not manifest.children:
        return digest
    system, machine, *variant = platform.split("/")
    try:
        for child in json.loads(manifest.content)["manifests"]:
            described = child.get("platform") or {}
            if (described.get("os"), described.get("architecture")) == (system, machine) and (
                not variant or described.get("variant") in (None, *variant)
            ):
                return str(child["digest"])
    except MALFORMED_JSON_ERRORS:
        pass
    raise RegistryError(
        f"{repository.display_name}@{digest} has no image for {platform}",
        likely_cause="it was built for other platforms",
        next_step="name an image of this platform under [drift], or set build.platform",
    )
