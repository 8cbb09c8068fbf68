"""Moves whole images, and nothing is rebuilt: from an archive to a registry, from one registry to another, and back."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from typing import Protocol

from drydock.errors import RegistryError
from drydock.oci.registry import archive_io
from drydock.oci.registry.manifest import Descriptor, Manifest
from drydock.oci.registry.repository_client import Store

# An index names an image for each platform; there are some dozens.
MANIFESTS_LIMIT = 1000


class Source(Protocol):
    """Where images come from: an archive, or a repository."""

    @property
    def where(self) -> str:
        """Its name for people."""

    async def manifest(self, digest: str, /) -> Manifest | None:
        """The manifest with a digest."""

    def chunks(self, blob: Descriptor, /) -> AsyncGenerator[bytes, None]:
        """The bytes of a blob, in one try."""


async def push(target: Store, archive: Path, manifest_digest: str) -> None:
    """Push what the archive at `archive` has under `manifest_digest`; nothing is sent before all of it is verified.

    Raises RegistryError where the archive is not that image, too.
    """
    with archive_io.open_archive(archive) as source:
        if manifest_digest not in source.index:
            found = ", ".join(source.index) or "nothing"
            raise archive_io.not_approved(archive, f"it has {found}, approved was {manifest_digest}")
        for manifest in await family(source, manifest_digest):
            for blob in manifest.blobs:
                await source.verify(blob)
        await transfer(source, target, manifest_digest)


async def transfer(source: Source, target: Store, digest: str) -> None:
    """Bring an image, or an index with its images, to `target`, which then serves it by its digest and not by a tag."""
    for manifest in await family(source, digest):
        await bring(source, target, manifest)


async def bring(source: Source, target: Store, manifest: Manifest) -> str:
    """Bring one manifest and its blobs to `target`; returns what `Store.put` said."""
    for blob in manifest.blobs:
        await target.ensure(blob, source.chunks)
    noted = await target.put(manifest, manifest.digest, source.chunks)
    await target.require_served(manifest.digest, manifest.digest)
    return noted


async def pull(source: Store, digest: str, path: Path) -> None:
    """Write an image, or an index with its images, to an OCI archive at `path`; a half-written one is never there."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            writer = archive_io.Writer(file)
            written: set[str] = set()
            manifests = await family(source, digest)
            for manifest in manifests:
                for blob in [blob for blob in manifest.blobs if blob.digest not in written]:
                    written.add(blob.digest)
                    await source.connection.patiently(partial(_write, writer, source, blob))
                await writer.add(manifest.descriptor, _content(manifest))
            writer.finish(manifests[-1])
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


async def family(source: Source, digest: str) -> list[Manifest]:
    """A manifest, after all that it names if it is an index; each once.

    Raises RegistryError if one is missing, or if there are more than MANIFESTS_LIMIT.
    """
    read: dict[str, Manifest] = {}
    found: dict[str, Manifest] = {}
    waiting = [digest]
    while waiting:
        current = waiting[-1]
        if current not in read:
            read[current] = await required(source, current)
        missing = [child.digest for child in read[current].children if child.digest not in read]
        if len(read) + len(waiting) + len(missing) > MANIFESTS_LIMIT:
            raise RegistryError(
                f"{source.where}@{digest} names more than {MANIFESTS_LIMIT} manifests",
                likely_cause="it is no image of some platforms, but was made to cost whoever reads it",
                next_step="name the manifest of one platform by its digest",
            )
        if missing:
            waiting += missing
        else:
            found[current] = read[current]
            waiting.pop()
    return list(found.values())


async def required(source: Source, digest: str) -> Manifest:
    """The manifest with a digest; raises RegistryError where there is none."""
    manifest = await source.manifest(digest)
    if manifest is None:
        raise RegistryError(
            f"{source.where} has no manifest {digest}",
            likely_cause="it was deleted, or was never pushed",
            next_step="look at what is there, then run again",
        )
    return manifest


async def _write(writer: archive_io.Writer, source: Store, blob: Descriptor) -> None:
    await writer.add(blob, source.chunks(blob))


async def _content(manifest: Manifest) -> AsyncGenerator[bytes, None]:
    yield manifest.content
