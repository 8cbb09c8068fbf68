"""Attaches documents to an image, finds them again, and takes them along: signatures, attestations, lists of parts.

A registry that knows of referrers lists them itself; for one that does not, the list is an index under a tag made of
the image's digest. https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#listing-referrers
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from errors import RegistryError
from registry import images, values
from registry.client import Refused
from registry.store import Store
from registry.values import BROKEN, Descriptor, Manifest

EMPTY_CONFIG = b"{}"
# How registries say that they keep no list of referrers. The specification has 404 alone.
NO_LIST = (400, 404, 405, 406, 501)


async def attach(
    store: Store, subject: str, artifact_type: str, document: bytes, annotations: Mapping[str, str]
) -> str:
    """Attach a document to the manifest with the digest `subject`; the digest of the manifest that does it.

    The same document with the same annotations is the same manifest, and is listed once.
    https://github.com/opencontainers/image-spec/blob/v1.1.0/manifest.md#guidelines-for-artifact-usage
    """
    described = await images.required(store, subject)
    contents = {values.digest_of(content): content for content in (EMPTY_CONFIG, document)}
    config = Descriptor(values.digest_of(EMPTY_CONFIG), values.EMPTY, len(EMPTY_CONFIG))
    layer = Descriptor(values.digest_of(document), artifact_type, len(document))
    written = {
        "schemaVersion": 2,
        "mediaType": values.IMAGE,
        "artifactType": artifact_type,
        "config": config.as_json(),
        "layers": [layer.as_json()],
        "subject": Descriptor(subject, described.media_type, len(described.content)).as_json(),
    }
    if annotations:
        written["annotations"] = dict(annotations)
    manifest = values.manifest(values.encoded(written), values.IMAGE)

    async def supply(blob: Descriptor) -> AsyncGenerator[bytes, None]:
        yield contents[blob.digest]

    for blob in manifest.blobs:
        await store.ensure(blob, supply)
    try:
        noted = await store.put(manifest, manifest.digest, supply)
    except Refused as refusal:
        raise RegistryError(
            f"{store.where} takes the image, and nothing that belongs to it: {refusal.what}",
            usually="it takes images only: no signature, SBOM or provenance can be attached to one there",
            next_step=(
                "use a repository for OCI artifacts, or a newer version of the registry; attachments = false under"
                " [image] publishes the image alone, and then nobody can verify it"
            ),
        ) from refusal
    await store.require_served(manifest.digest, manifest.digest)
    if not noted:
        await _list(store, subject, manifest)
    return manifest.digest


async def referrers(store: Store, subject: str) -> tuple[Descriptor, ...]:
    """What refers to the manifest with the digest `subject`, from the registry's own list or from the tag's."""
    pages = await store.pages(f"referrers/{subject}", "referrers", values.INDEX, absent=NO_LIST)
    if pages is None:
        listed = await store.manifest(fallback_tag(subject))
        return listed.children if listed else ()
    try:
        found = [values.descriptor(entry) for page in pages for entry in page.get("manifests") or []]
    except BROKEN as error:
        raise RegistryError(
            f"{store.where}: the referrers of {subject} cannot be read: {error}",
            usually="a proxy before the registry answers in its place",
            next_step="look at what the registry serves, then run again",
        ) from error
    return tuple({entry.digest: entry for entry in found}.values())


async def copy(source: Store, target: Store, digest: str) -> None:
    """Copy an image, or an index with its images, and all that refers to them, and to that in turn."""
    waiting, seen = [(digest, "")], set[str]()
    while waiting:
        wanted, subject = waiting.pop()
        brought = await images.transfer(source, target, wanted)
        manifest, noted = brought[-1]
        if subject and not noted:
            await _list(target, subject, manifest)
        for manifest in [manifest for manifest, _ in brought if manifest.digest not in seen]:
            seen.add(manifest.digest)
            waiting += [(entry.digest, manifest.digest) for entry in await referrers(source, manifest.digest)]


def fallback_tag(subject: str) -> str:
    """The tag under which a registry that does not list referrers has their list."""
    return subject.replace(":", "-")


async def _list(store: Store, subject: str, manifest: Manifest) -> None:
    """Add a referrer to the list under the fallback tag, and keep what is there.

    A registry cannot compare and swap: of two runs that add at the same moment one may undo the other, so each looks
    again. Within one run they wait for each other.
    """
    tag = fallback_tag(subject)
    async with store.listing:
        for _ in range(store.connection.patience.attempts):
            listed = await store.manifest(tag)
            if listed and manifest.digest in [entry.digest for entry in listed.children]:
                return
            before: dict[str, Any] = {"schemaVersion": 2, "mediaType": values.INDEX}
            if listed:
                before |= json.loads(listed.content)
            entries = [*(before.get("manifests") or []), manifest.descriptor.as_json()]
            after = values.manifest(values.encoded({**before, "manifests": entries}), values.INDEX)
            try:
                await store.put(after, tag)
            except Refused as refusal:
                raise RegistryError(
                    f"{manifest.digest} is attached, but cannot be listed: {refusal.what}",
                    usually="the registry keeps no list of referrers itself, and does not let the list's own tag move",
                    next_step="exempt tags that begin with sha256- from the registry's rule, then run again",
                ) from refusal
            if await store.served(tag) == after.digest:
                return
    raise RegistryError(
        f"{store.where}:{tag} does not keep {manifest.digest}",
        usually="something else writes this tag all the time",
        next_step="find out who writes to the repository, then run again",
    )
