"""One repository of a registry, and all that a run does with it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from drydock.oci.registry import referrers, transfer
from drydock.oci.registry.client import Credentials, Refused, RetryPolicy, connect
from drydock.oci.registry.manifest import Descriptor, Manifest
from drydock.oci.registry.referrers import Attachment
from drydock.oci.registry.repository_client import RepositoryClient

RETRY_POLICY = RetryPolicy()


class Repository(RepositoryClient):
    """The manifests, blobs and tags of one repository, and whole images. Every method raises RegistryError."""

    async def push(self, archive: Path, manifest_digest: str) -> None:
        """Push the image that the OCI archive at `archive` holds under this digest, byte for byte, and give it no tag.

        Nothing is sent before every byte of it is verified: "the archive is not what was approved" is an error.
        """
        await transfer.push(self, archive, manifest_digest)

    async def tag_unverified(self, digest: str, tag: str) -> None:
        """Let a tag point to a manifest that is here, without reading it back."""
        await self.put_manifest(await transfer.require_manifest(self, digest), tag)

    async def tag(self, digest: str, tag: str) -> None:
        """Let a tag point to a manifest that is here, and read it back: it serves this manifest and no other."""
        await self.tag_unverified(digest, tag)
        await self.require_served(tag, digest)

    async def move_tag(self, digest: str, tag: str) -> str:
        """Let a tag point to a manifest that is here; returns the reason if the tag stays at another one, else "".

        Registries that let no tag move say so in many ways: 400, 403, 409, 412. What they have in common is that the
        tag is there, and stays. A tag that is right is not written: such registries refuse that as well.
        """
        if await self.get_digest(tag) == digest:
            return ""
        try:
            await self.tag_unverified(digest, tag)
        except Refused as refusal:
            served = await self.get_digest(tag)
            if not served:
                raise
            return "" if served == digest else refusal.message
        return ""

    async def tag_if_absent(self, digest: str, tag: str) -> str:
        """Let a tag that does not exist point to a manifest that is here; returns the digest if it exists, else ""."""
        return await self.put_manifest_if_absent(await transfer.require_manifest(self, digest), tag)

    async def attach(self, subject: str, artifact_type: str, document: bytes, annotations: Mapping[str, str]) -> str:
        """Attach a document to a manifest that is here; the digest of the artifact, the same for the same document."""
        return await referrers.attach(self, subject, artifact_type, document, annotations)

    async def list_referrers(self, subject: str) -> tuple[Descriptor, ...]:
        """What is attached to a manifest."""
        return await referrers.list_referrers(self, subject)

    async def require_referrers(self, subject: str) -> None:
        """Raise RegistryError if cosign sees nothing that is attached to a manifest, whatever is."""
        await referrers.require_readable(self, subject)

    async def pull(self, digest: str, path: Path) -> None:
        """Write an image as an OCI archive to `path`, every blob verified; a half-written one is never there."""
        await transfer.pull(self, digest, path)

    def list_attachments(self, subject: str, kinds: Sequence[str]) -> AsyncGenerator[Attachment, None]:
        """What is attached to a manifest, with the documents whose types begin with one of these kinds."""
        return referrers.list_attachments(self, subject, kinds)

    async def copy(self, digest: str, target: Repository, attached: Sequence[Manifest] = ()) -> None:
        """Copy an image and these manifests that refer to it, byte for byte; no tag is made."""
        await referrers.copy(self, target, digest, attached)


def ignore_retries(_: str) -> None:
    """Report no retry."""


@asynccontextmanager
async def open_repository(
    repository: str,
    login: Credentials | None,
    on_retry: Callable[[str], None] = ignore_retries,
    retry_policy: RetryPolicy = RETRY_POLICY,
) -> AsyncIterator[Repository]:
    """Open the connections to `repository`, which is host/name; calls `on_retry` with a sentence before each retry."""
    async with connect(repository, login, on_retry, retry_policy) as connection:
        yield Repository(connection)
