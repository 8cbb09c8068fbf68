"""Copies whole images: from an archive to a registry, from one registry to another, and back."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from typing import Protocol

from drydock.errors import RegistryError
from drydock.oci.registry import archive_io
from drydock.oci.registry.manifest import Descriptor, Manifest
from drydock.oci.registry.repository_client import RepositoryClient

# An index names an image for each platform; there are some dozens.
MANIFESTS_LIMIT = 1000


class Source(Protocol):
    """Where images come from: an archive, or a repository."""

    @property
    def display_name(self) -> str:
        """Its name for people."""

    async def get_manifest(self, digest: str, /) -> Manifest | None:
        """The manifest with a digest."""

    def stream_blob(self, blob: Descriptor, /) -> AsyncGenerator[bytes, None]:
        """The bytes of a blob, in one try."""


async def push(target: RepositoryClient, archive: Path, manifest_digest: str) -> None:
    """Push what the archive at `archive` has under `manifest_digest`; all of it is verified before anything is sent.

    Raises RegistryError also if the archive is not that image.
    """
    with archive_io.open_archive(archive) as source:
        if manifest_digest not in source.index:
            found = ", ".join(source.index) or "nothing"
            raise archive_io.not_approved_error(archive, f"it has {found}, approved was {manifest_digest}")
        for manifest in await resolve_manifests(source, manifest_digest):
            for blob in manifest.blobs:
                await source.verify(blob)
        await copy_image(source, target, manifest_digest)


async def copy_image(source: Source, target: RepositoryClient, digest: str) -> None:
    """Copy an image, or an index with its images, to `target`, which serves it by its digest and without a tag."""
    for manifest in await resolve_manifests(source, digest):
        await copy_manifest(source, target, manifest)


async def copy_manifest(source: Source, target: RepositoryClient, manifest: Manifest) -> str:
    """Copy one manifest and its blobs to `target`; returns what `RepositoryClient.put_manifest` returned."""
    for blob in manifest.blobs:
        await target.upload_if_absent(blob, source.stream_blob)
    noted_subject = await target.put_manifest(manifest, manifest.digest, source.stream_blob)
    await target.require_served(manifest.digest, manifest.digest)
    return noted_subject


async def pull(source: RepositoryClient, digest: str, path: Path) -> None:
    """Write an image, or an index with its images, to an OCI archive at `path`; a half-written one is never there."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            writer = archive_io.Writer(file)
            written: set[str] = set()
            manifests = await resolve_manifests(source, digest)
            for manifest in manifests:
                for blob in [blob for blob in manifest.blobs if blob.digest not in written]:
                    written.add(blob.digest)
                    await source.connection.with_retries(partial(_write_blob, writer, source, blob))
                await writer.add_blob(manifest.descriptor, _iter_content(manifest))
            writer.finish(manifests[-1])
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


async def resolve_manifests(source: Source, digest: str) -> list[Manifest]:
    """A manifest, after all that it names if it is an index; each once.

    Raises RegistryError if one is missing, or if there are more than MANIFESTS_LIMIT.
    """
    read: dict[str, Manifest] = {}
    found: dict[str, Manifest] = {}
    waiting = [digest]
    while waiting:
        current = waiting[-1]
        if current not in read:
            read[current] = await require_manifest(source, current)
        missing = [child.digest for child in read[current].children if child.digest not in read]
        if len(read) + len(waiting) + len(missing) > MANIFESTS_LIMIT:
            raise RegistryError(
                f"{source.display_name}@{digest} names more than {MANIFESTS_LIMIT} manifests",
                likely_cause="it is no image of some platforms, but an attack on its readers",
                next_step="name the manifest of one platform by its digest",
            )
        if missing:
            waiting += missing
        else:
            found[current] = read[current]
            waiting.pop()
    return list(found.values())


async def require_manifest(source: Source, digest: str) -> Manifest:
    """The manifest with a digest; raises RegistryError if there is none."""
    manifest = await source.get_manifest(digest)
    if manifest is None:
        raise RegistryError(
            f"{source.display_name} has no manifest {digest}",
            likely_cause="it was deleted, or was never pushed",
            next_step="look at what is there, then run again",
        )
    return manifest


async def _write_blob(writer: archive_io.Writer, source: RepositoryClient, blob: Descriptor) -> None:
    await writer.add_blob(blob, source.stream_blob(blob))


async def _iter_content(manifest: Manifest) -> AsyncGenerator[bytes, None]:
    yield manifest.content
