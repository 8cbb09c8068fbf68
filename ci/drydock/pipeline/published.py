"""What verify, promote, rescan and reproduce share: how a published image is found, and who may read it."""

from __future__ import annotations

import json
from dataclasses import replace

from drydock.errors import RegistryError, UsageError
from drydock.oci import registry
from drydock.oci.reference import Reference
from drydock.oci.registry import Repository
from drydock.pipeline.plan import Plan


def with_credentials(plan: Plan, source: str, target: str) -> Plan:
    """Return the plan with the credentials for the repositories `source` and `target`; no host gets another's.

    Raises UsageError if the source's own credentials are those of another host.
    """
    login = registry.choose_login(source, plan.source_login, plan.login)
    if plan.source_login and not login:
        host, variables = source.partition("/")[0], " and ".join(registry.SOURCE_VARIABLES[:2])
        raise UsageError(
            f"{variables} are those of {plan.source_login.host}, and not of {host}",
            likely_cause="they were set for another image",
            next_step=(
                f"set {registry.SOURCE_VARIABLES[2]}={host} if they are its credentials, else unset all three; "
                "then run again"
            ),
        )
    return replace(plan, source_login=login, login=registry.choose_login(target, plan.login, plan.source_login))


async def resolve_digest(repository: Repository, image: Reference) -> str:
    """Return the digest that an image has in its repository.

    Raises RegistryError if there is no such image, or if its tag and its digest name two images.
    """
    digest = await repository.get_digest(image.digest or image.tag)
    if digest and image.digest and image.tag and await repository.get_digest(image.tag) != digest:
        raise RegistryError(
            f"{image.repository}:{image.tag} serves another image than {image.digest}",
            likely_cause="the tag has moved on since somebody wrote both down",
            next_step="name the image by its digest alone, or find out who moved the tag",
        )
    if digest is None:
        raise RegistryError(
            f"there is no {image}",
            likely_cause="it was never pushed, or its tag or name is misspelt",
            next_step="look it up in the registry; release.json has the digest of the last one that was published",
        )
    return digest


async def read_labels(repository: Repository, digest: str) -> dict[str, str]:
    """Return the labels of the image's configuration, which its digest vouches for.

    Raises RegistryError if the digest is not that of an image of one platform.
    """
    manifest = await repository.get_manifest(digest)
    try:
        config = json.loads(
            await repository.get_blob(json.loads(manifest.content if manifest else b"")["config"]["digest"])
        )
        labels = (config.get("config") or {}).get("Labels") or {}
        return {str(name): str(value) for name, value in labels.items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise RegistryError(
            f"{repository.display_name}@{digest} is no image of one platform",
            likely_cause="it is an index of several, or something other than an image",
            next_step="name the manifest of one platform by its digest",
        ) from error
