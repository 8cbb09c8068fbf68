"""Attaches documents to an image, reads them again, and copies them: signatures, attestations, lists of parts.

A registry that supports referrers lists them itself. For other registries the list is an index under a tag that is
made of the image's digest. https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#listing-referrers
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drydock.errors import RegistryError
from drydock.oci import media_types
from drydock.oci.layout import MALFORMED_JSON_ERRORS
from drydock.oci.media_types import compute_digest
from drydock.oci.registry import manifest as values
from drydock.oci.registry import transfer
from drydock.oci.registry.client import Refused
from drydock.oci.registry.manifest import Descriptor, Manifest
from drydock.oci.registry.repository_client import BLOB_BYTES, RepositoryClient, contended_tag_error

EMPTY_CONFIG = b"{}"
# The statuses of registries without a list of referrers. The specification has 404 alone.
NO_LIST = (400, 404, 405, 406, 501)
# After these cosign reads the tag instead. After any other it reports that nothing is signed.
# https://github.com/google/go-containerregistry/blob/v0.21.7/pkg/v1/remote/referrers.go
NO_LIST_FOR_COSIGN = (400, 404, 406)
# Anybody who may push can attach anything, and in any number: no more than this is read.
DOCUMENTS_LIMIT = 200
DOCUMENTS_BYTES = 128 * 1024 * 1024


@dataclass(frozen=True)
class Attachment:
    """A referrer of a manifest: its entry in the list, and the document that it attaches, if that was read."""

    entry: Descriptor
    manifest: Manifest | None = None
    document: bytes = b""


async def attach(
    client: RepositoryClient, subject: str, artifact_type: str, document: bytes, annotations: Mapping[str, str]
) -> str:
    """Attach a document to the manifest with the digest `subject`; the digest of the manifest that does it.

    The same document with the same annotations is the same manifest, and is listed once.
    https://github.com/opencontainers/image-spec/blob/v1.1.0/manifest.md#guidelines-for-artifact-usage
    """
    described = await transfer.require_manifest(client, subject)
    contents = {compute_digest(content): content for content in (EMPTY_CONFIG, document)}
    config = Descriptor(compute_digest(EMPTY_CONFIG), media_types.EMPTY_JSON, len(EMPTY_CONFIG))
    layer = Descriptor(compute_digest(document), artifact_type, len(document))
    written = {
        "schemaVersion": 2,
        "mediaType": media_types.IMAGE_MANIFEST,
        "artifactType": artifact_type,
        "config": config.to_json(),
        "layers": [layer.to_json()],
        "subject": Descriptor(subject, described.media_type, len(described.content)).to_json(),
    }
    if annotations:
        written["annotations"] = dict(annotations)
    manifest = values.parse_manifest(values.canonical_json(written), media_types.IMAGE_MANIFEST)

    async def iter_content(blob: Descriptor) -> AsyncGenerator[bytes, None]:
        yield contents[blob.digest]

    for blob in manifest.blobs:
        await client.upload_if_absent(blob, iter_content)
    try:
        noted_subject = await client.put_manifest(manifest, manifest.digest, iter_content)
    except Refused as refusal:
        alone = "attachments = false under [image] publishes the image alone, and then nobody can verify it"
        raise _images_only_error(client, refusal, f"; {alone}") from refusal
    await client.require_served(manifest.digest, manifest.digest)
    if not noted_subject:
        await _add_to_list(client, subject, manifest)
    return manifest.digest


async def list_referrers(client: RepositoryClient, subject: str) -> tuple[Descriptor, ...]:
    """The referrers of the manifest with the digest `subject`, from the registry's own list or from the tag's."""
    pages = await client.get_pages(f"referrers/{subject}", "referrers", media_types.IMAGE_INDEX, absent=NO_LIST)
    if pages is None:
        listed = await client.get_manifest(create_fallback_tag(subject))
        return listed.children if listed else ()
    try:
        found = [values.parse_descriptor(entry) for page in pages for entry in page.get("manifests") or []]
    except MALFORMED_JSON_ERRORS as error:
        raise RegistryError(
            f"{client.display_name}: the referrers of {subject} cannot be read: {error}",
            likely_cause="a proxy before the registry answers in its place",
            next_step="see what the registry serves with oras discover "
            f"{client.display_name}@{subject}, then run again",
        ) from error
    return tuple({entry.digest: entry for entry in found}.values())


async def require_readable(client: RepositoryClient, subject: str) -> None:
    """Raise RegistryError if cosign cannot read the registry's answer about referrers, and so finds none."""
    try:
        await client.get_pages(f"referrers/{subject}", "referrers", media_types.IMAGE_INDEX, absent=NO_LIST_FOR_COSIGN)
    except Refused as refusal:
        raise RegistryError(
            f"{client.display_name}@{subject} could not be verified: {refusal.message}",
            likely_cause="cosign takes no such answer, and finds no signature, whether there is one or not",
            next_step="let the registry, or a proxy before it, answer 404 to /v2/NAME/referrers/, then run again",
        ) from refusal


async def list_attachments(
    client: RepositoryClient, subject: str, kinds: Sequence[str]
) -> AsyncGenerator[Attachment, None]:
    """All that refers to the manifest with the digest `subject`, with the documents of these kinds.

    A kind is what an artifact's type begins with. What is no single document in a manifest that refers to `subject`
    and carries nothing else is not read, nor is what is beyond DOCUMENTS_LIMIT or DOCUMENTS_BYTES.
    """
    count, left_bytes = 0, DOCUMENTS_BYTES
    for entry in await list_referrers(client, subject):
        # A list under a tag need not have the types.
        wanted = not entry.artifact_type or entry.artifact_type.startswith(tuple(kinds))
        if not wanted or count == DOCUMENTS_LIMIT:
            yield Attachment(entry)
            continue
        count += 1
        manifest = await client.get_manifest(entry.digest)
        layer = _find_document(manifest, subject, kinds) if manifest else None
        if layer is None or layer.size_bytes > min(left_bytes, BLOB_BYTES):
            yield Attachment(entry)
            continue
        left_bytes -= layer.size_bytes
        yield Attachment(entry, manifest, await client.get_blob(layer.digest))


async def copy(source: RepositoryClient, target: RepositoryClient, digest: str, attached: Sequence[Manifest]) -> None:
    """Copy an image, or an index with its images, and these manifests that refer to it, byte for byte."""
    await transfer.copy_image(source, target, digest)
    for manifest in attached:
        try:
            noted_subject = await transfer.copy_manifest(source, target, manifest)
        except Refused as refusal:
            raise _images_only_error(target, refusal) from refusal
        if not noted_subject:
            await _add_to_list(target, digest, manifest)


def create_fallback_tag(subject: str) -> str:
    """The tag under which a registry that does not list referrers has their list."""
    return subject.replace(":", "-")


def _images_only_error(client: RepositoryClient, refusal: Refused, otherwise: str = "") -> RegistryError:
    return RegistryError(
        f"{client.display_name} takes the image, and nothing that belongs to it: {refusal.message}",
        likely_cause="it takes images only: no signature, SBOM or provenance can be attached to one there",
        next_step=f"use a repository for OCI artifacts, or a newer version of the registry{otherwise}",
    )


def _find_document(manifest: Manifest, subject: str, kinds: Sequence[str]) -> Descriptor | None:
    """The one document that a manifest attaches to `subject`; None if it carries another, or something besides."""
    config, layers = manifest.config, manifest.layers
    if manifest.subject != subject or len(layers) != 1 or manifest.children:
        return None
    if config is None or config.size_bytes > len(EMPTY_CONFIG):
        return None
    return layers[0] if layers[0].media_type.startswith(tuple(kinds)) else None


async def _add_to_list(client: RepositoryClient, subject: str, manifest: Manifest) -> None:
    """Add a referrer to the list under the fallback tag, and keep what is there.

    A registry cannot compare and swap: of two runs that add at the same moment one may undo the other, so each looks
    again. Within one run they wait for each other.
    """
    tag = create_fallback_tag(subject)
    async with client.listing:
        for _ in range(client.connection.retry_policy.attempts):
            listed = await client.get_manifest(tag)
            if listed and manifest.digest in [entry.digest for entry in listed.children]:
                return
            before: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_types.IMAGE_INDEX}
            if listed:
                before |= json.loads(listed.content)
            entries = [*(before.get("manifests") or []), manifest.descriptor.to_json()]
            after = values.parse_manifest(
                values.canonical_json({**before, "manifests": entries}), media_types.IMAGE_INDEX
            )
            try:
                await client.put_manifest(after, tag)
            except Refused as refusal:
                raise RegistryError(
                    f"{manifest.digest} is attached, but cannot be listed: {refusal.message}",
                    likely_cause=(
                        "the registry keeps no list of referrers itself, and does not let the list's own tag move"
                    ),
                    next_step="exempt tags that begin with sha256- from the registry's rule, then run again",
                ) from refusal
            if await client.wait_until_served(tag) == after.digest:
                return
    raise contended_tag_error(f"{client.display_name}:{tag} does not keep {manifest.digest}")
