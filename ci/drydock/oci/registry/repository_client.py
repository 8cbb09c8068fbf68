"""Reads and writes one repository, one manifest or blob at a time; verifies every digest.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import aclosing
from functools import partial
from typing import Any
from urllib.parse import quote

import anyio
import httpx

from drydock.errors import RegistryError
from drydock.oci.media_types import MANIFESTS, compute_digest
from drydock.oci.registry.client import Connection, Refused, TransientError, read_body
from drydock.oci.registry.manifest import Descriptor, Manifest, parse_manifest

# The specification lets a registry refuse larger manifests, so nobody makes them.
MANIFEST_BYTES = 4 * 1024 * 1024
BLOB_BYTES = 32 * 1024 * 1024
LIST_BYTES = 32 * 1024 * 1024
PAGES = 1000
# A proxy before the registry may take no body as long as a layer; then it is sent in pieces, of the first length that
# goes through. nginx takes 1 MiB by default, Cloudflare 100 MB.
PIECE_BYTES = (32 * 1024 * 1024, 4 * 1024 * 1024, 512 * 1024, 64 * 1024)

# Opens a blob by its descriptor; called again for each try.
BlobSource = Callable[[Descriptor], AsyncGenerator[bytes, None]]


class RepositoryClient:
    """The manifests, blobs and tags of one repository. Every method raises RegistryError."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.listing = anyio.Lock()
        self._longest_body_bytes = sys.maxsize

    @property
    def display_name(self) -> str:
        """The repository's name for people."""
        return f"{self.connection.host}/{self.connection.name}"

    async def get_manifest(self, reference: str) -> Manifest | None:
        """The manifest under a tag or digest, None if there is none. By a digest, only that one is accepted."""
        return await self.connection.with_retries(partial(self._get_manifest, reference))

    async def get_digest(self, reference: str) -> str | None:
        """The digest of the manifest under a tag or digest, computed from its bytes; None if there is none."""
        found = await self.get_manifest(reference)
        return found.digest if found else None

    async def list_tags(self) -> tuple[str, ...]:
        """Every tag, page by page; empty if the repository does not exist yet."""
        pages = await self.get_pages("tags/list?n=1000", "tags") or []
        return tuple([str(tag) for page in pages for tag in page.get("tags") or []])

    async def get_blob(self, digest: str) -> bytes:
        """A blob of at most BLOB_BYTES, whose bytes are what its digest says."""

        async def once() -> bytes:
            url = f"{self.connection.url}/blobs/{digest}"
            async with self.connection.request("GET", url, "blob", expected=(200,)) as response:
                return await read_body(response, BLOB_BYTES)

        content = await self.connection.with_retries(once)
        if len(content) > BLOB_BYTES:
            raise self._tampered_error(f"{digest} is larger than {BLOB_BYTES // 1024**2} MiB")
        if compute_digest(content) != digest:
            raise self._tampered_error(f"other bytes are served as {digest}: {compute_digest(content)}")
        return content

    def stream_blob(self, blob: Descriptor) -> AsyncGenerator[bytes, None]:
        """A blob of any size, in one try: it may break in the middle, and has an end only if all of it is right."""
        return verify_chunks(self._stream_once(blob), blob, f"{self.display_name} serves")

    async def upload_if_absent(self, blob: Descriptor, source: BlobSource) -> None:
        """Upload a blob, unless it is there."""
        await self.connection.with_retries(partial(self._upload_if_absent, blob, source))

    async def put_manifest(self, manifest: Manifest, reference: str, source: BlobSource | None = None) -> str:
        """Put a manifest under a tag or digest; before another try, what the registry misses of it is sent again.

        Returns the subject that the registry noted as a referrer's (OCI-Subject); empty if it keeps no such list.
        """
        tried = False

        async def once() -> str:
            nonlocal tried
            if tried and source:
                for blob in manifest.blobs:
                    await self._upload_if_absent(blob, source)
            tried = True
            return await self._put_manifest(manifest, reference)

        return await self.connection.with_retries(once)

    async def put_manifest_if_absent(self, manifest: Manifest, tag: str) -> str:
        """Put a manifest under a tag that does not exist; returns the digest if it exists, else "".

        Look and put are one try: were only the put tried again, somebody could come in between long after the look.
        """
        tried = False

        async def once() -> str:
            nonlocal tried
            found = await self._get_manifest(tag)
            # The answer to a put may be what was lost of it.
            if found and not (tried and found.digest == manifest.digest):
                return found.digest
            tried = True
            if not found:
                try:
                    await self._put_manifest(manifest, tag)
                except Refused:
                    # Somebody was first after our look, and the registry lets no tag move.
                    found = await self._get_manifest(tag)
                    if not found:
                        raise
                    return found.digest
            return ""

        return await self.connection.with_retries(once)

    async def wait_until_served(self, reference: str) -> str:
        """The digest that a just-pushed tag or digest serves; retries while it is not there yet."""

        async def once() -> str:
            found = await self._get_manifest(reference)
            if not found:
                raise TransientError(f"{self._format_reference(reference)} is not served yet")
            return found.digest

        return await self.connection.with_retries(once)

    async def require_served(self, reference: str, digest: str) -> None:
        """Raise RegistryError unless a just-pushed tag or digest serves the manifest that has this digest."""
        served = await self.wait_until_served(reference)
        if served != digest:
            raise RegistryError(
                f"{self._format_reference(reference)} serves {served}, pushed was {digest}",
                likely_cause="something else pushed this tag at the same time, or a proxy rewrites manifests",
                next_step="do not deploy this tag; give each pipeline its own repository, then run again",
            )

    async def get_pages(
        self, path: str, what: str, media_type: str = "application/json", absent: Collection[int] = (404,)
    ) -> list[dict[str, Any]] | None:
        """Every page of a list, in order; None if there is no such list, or what is there is of another type.

        `absent` are the statuses that mean that there is no list.
        """
        found: list[dict[str, Any]] = []
        total_bytes = 0
        url: str | None = f"{self.connection.url}/{path}"
        while url:
            answer = await self.connection.with_retries(partial(self._get_page, url, what, media_type, absent))
            if answer is None:
                return None
            page, url, size_bytes = answer
            found.append(page)
            total_bytes += size_bytes
            if len(found) > PAGES or total_bytes > LIST_BYTES:
                raise self._tampered_error(f"the list of {what} does not end")
        return found

    async def _get_page(
        self, url: str, what: str, media_type: str, absent: Collection[int]
    ) -> tuple[dict[str, Any], str | None, int] | None:
        accept = {"Accept": media_type}
        async with self.connection.request("GET", url, what, expected=(200, *absent), headers=accept) as response:
            if response.status_code != httpx.codes.OK:
                return None
            if media_type not in ("application/json", _get_media_type(response)):
                return None
            content = await read_body(response, LIST_BYTES)
        try:
            page = json.loads(content)
            if not isinstance(page, dict):
                raise TypeError(f"it is a {type(page).__name__}")
        except (ValueError, TypeError, RecursionError) as error:
            raise self._tampered_error(f"the list of {what} cannot be read: {error}") from error
        following = response.links.get("next", {}).get("url")
        return page, str(response.url.join(following)) if following else None, len(content)

    async def _get_manifest(self, reference: str) -> Manifest | None:
        url = f"{self.connection.url}/manifests/{reference}"
        accept = {"Accept": ", ".join(MANIFESTS)}
        async with self.connection.request("GET", url, "manifest", expected=(200, 404), headers=accept) as response:
            if response.status_code == httpx.codes.NOT_FOUND:
                return None
            content = await read_body(response, MANIFEST_BYTES)
        if len(content) > MANIFEST_BYTES:
            raise self._tampered_error(f"the manifest under {reference} is larger than {MANIFEST_BYTES // 1024**2} MiB")
        found = parse_manifest(content, _get_media_type(response))
        if ":" in reference and found.digest != reference:
            raise self._tampered_error(f"other bytes are served as {reference}: {found.digest}")
        return found

    async def _put_manifest(self, manifest: Manifest, reference: str) -> str:
        url = f"{self.connection.url}/manifests/{reference}"
        headers = {"Content-Type": manifest.media_type}
        async with self.connection.request(
            "PUT", url, "manifest", expected=(201,), headers=headers, content=manifest.content
        ) as response:
            return str(response.headers.get("OCI-Subject", ""))

    async def _upload_if_absent(self, blob: Descriptor, source: BlobSource) -> None:
        url = f"{self.connection.url}/blobs"
        async with self.connection.request("HEAD", f"{url}/{blob.digest}", "blob", expected=(200, 404)) as response:
            if response.status_code == httpx.codes.OK:
                return
        for length_bytes in sorted({blob.size_bytes, *PIECE_BYTES}, reverse=True):
            if length_bytes > min(blob.size_bytes, self._longest_body_bytes):
                continue
            try:
                await self._upload(blob, source, length_bytes)
            except Refused as refusal:
                if refusal.status != httpx.codes.REQUEST_ENTITY_TOO_LARGE:
                    raise
                self._longest_body_bytes = length_bytes - 1
            else:
                return
        kind = "a configuration" if "config" in blob.media_type or "container.image" in blob.media_type else "a layer"
        raise RegistryError(
            f"{self.connection.host} answered 413 to {kind} of {blob.size_bytes:,} bytes: {blob.digest}",
            likely_cause="a proxy before the registry takes no body as long as this, in pieces neither",
            next_step="raise the limit of the proxy, which nginx calls client_max_body_size; or push past the proxy",
        )

    async def _upload(self, blob: Descriptor, source: BlobSource, length_bytes: int) -> None:
        """Send a blob in pieces of so many bytes; in one, if it has no more."""
        connection, headers = self.connection, {"Content-Type": "application/octet-stream"}
        async with connection.request("POST", f"{connection.url}/blobs/uploads/", "blob", expected=(202,)) as response:
            location = str(response.url.join(response.headers.get("Location", "")))
        body: partial[AsyncGenerator[bytes, None]] | bytes = partial(source, blob)
        size_bytes = blob.size_bytes
        if length_bytes < blob.size_bytes:
            start, body, size_bytes = 0, b"", 0
            async with aclosing(_split_chunks(source(blob), length_bytes)) as pieces:
                async for piece in pieces:
                    ranged = {"Content-Length": str(len(piece)), "Content-Range": f"{start}-{start + len(piece) - 1}"}
                    async with connection.request(
                        "PATCH", location, "blob", expected=(202,), headers=headers | ranged, content=piece
                    ) as response:
                        location = str(response.url.join(response.headers.get("Location", location)))
                    start += len(piece)
        location += f"{'&' if '?' in location else '?'}digest={quote(blob.digest, safe='')}"
        headers["Content-Length"] = str(size_bytes)
        async with connection.request("PUT", location, "blob", expected=(201,), headers=headers, content=body):
            pass

    async def _stream_once(self, blob: Descriptor) -> AsyncGenerator[bytes, None]:
        url = f"{self.connection.url}/blobs/{blob.digest}"
        async with self.connection.request("GET", url, "blob", expected=(200,)) as response:
            async for part in response.aiter_bytes():
                yield part

    def _format_reference(self, reference: str) -> str:
        return f"{self.display_name}{'@' if ':' in reference else ':'}{reference}"

    def _tampered_error(self, what: str) -> RegistryError:
        return _tampered_error(f"{self.display_name}: {what}")


async def verify_chunks(
    chunks: AsyncGenerator[bytes, None], blob: Descriptor, prefix: str
) -> AsyncGenerator[bytes, None]:
    """Yield the chunks, the last one only if all of them match the blob; else raise RegistryError.

    `prefix` begins the error, such as "NAME serves".
    """
    sha256, size_bytes, last = hashlib.sha256(), 0, b""
    async with aclosing(chunks):
        async for chunk in chunks:
            sha256.update(chunk)
            size_bytes += len(chunk)
            if size_bytes > blob.size_bytes:
                break
            if last:
                yield last
            last = chunk
    if size_bytes != blob.size_bytes or blob.digest != f"sha256:{sha256.hexdigest()}":
        raise _tampered_error(f"{prefix} other bytes than {blob.digest} names")
    yield last


def contended_tag_error(message: str) -> RegistryError:
    """The error for a tag that another writer changes again and again."""
    return RegistryError(
        message,
        likely_cause="something else writes this tag all the time",
        next_step="give each pipeline its own repository, then run again",
    )


def _tampered_error(message: str) -> RegistryError:
    return RegistryError(
        message,
        likely_cause="a proxy before the registry changes what it serves, or somebody tampered with it",
        next_step="do not deploy from there; find out who answers, then run again",
    )


async def _split_chunks(chunks: AsyncGenerator[bytes, None], length_bytes: int) -> AsyncGenerator[bytes, None]:
    """The same bytes in pieces of this length; the last one may be shorter."""
    waiting = bytearray()
    async with aclosing(chunks):
        async for chunk in chunks:
            waiting += chunk
            while len(waiting) >= length_bytes:
                yield bytes(waiting[:length_bytes])
                del waiting[:length_bytes]
    if waiting:
        yield bytes(waiting)


def _get_media_type(response: httpx.Response) -> str:
    return str(response.headers.get("Content-Type", "")).partition(";")[0]
