"""Images in OCI archives, as the registry code reads and writes them: blob by blob, streamed.

https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md
"""

from __future__ import annotations

import tarfile
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import anyio

from drydock.errors import RegistryError
from drydock.oci import media_types
from drydock.oci.layout import BLOCK_BYTES, INDEX, MALFORMED_ERRORS, Layout, open_layout
from drydock.oci.media_types import blob_name
from drydock.oci.registry import manifest as values
from drydock.oci.registry.manifest import Descriptor, Manifest
from drydock.oci.registry.repository_client import MANIFEST_BYTES, verify_chunks


@dataclass(frozen=True)
class Archive:
    """An open archive; `index` has the media type of each manifest in the archive's index, by its digest.

    The file stays open: if another file replaces it during a push, this one is still read.
    """

    path: Path
    layout: Layout = field(repr=False)
    index: Mapping[str, str]

    @property
    def display_name(self) -> str:
        """The archive's name for people."""
        return str(self.path)

    async def get_manifest(self, digest: str) -> Manifest | None:
        """A manifest in the archive; None if there is none."""
        if not self.layout.has_blob(digest):
            return None
        with _archive_errors(self.path):
            if not 0 < self.layout.get_blob_size_bytes(digest) <= MANIFEST_BYTES:
                return None
        return values.parse_manifest(await self.get_blob(digest), self.index.get(digest, media_types.IMAGE_MANIFEST))

    async def get_blob(self, digest: str) -> bytes:
        """A document in the archive, verified."""
        with _archive_errors(self.path):
            return self.layout.read_blob(digest)

    def stream_blob(self, blob: Descriptor) -> AsyncGenerator[bytes, None]:
        """A blob's bytes; they have an end only if all of them are right."""
        return verify_chunks(self._read(blob), blob, f"{self.path} holds")

    async def verify(self, blob: Descriptor) -> None:
        """Raise RegistryError if the archive does not have the blob, or has other bytes in its place."""
        if not self.layout.has_blob(blob.digest):
            raise not_approved_error(self.path, f"it has no blob {blob.digest}")
        try:
            async with aclosing(self.stream_blob(blob)) as chunks:
                async for _ in chunks:
                    pass
        except RegistryError as error:
            raise not_approved_error(self.path, f"its blob {blob.digest} holds other bytes") from error

    async def _read(self, blob: Descriptor) -> AsyncGenerator[bytes, None]:
        with _archive_errors(self.path), self.layout.open_blob(blob.digest) as file:
            while block := await anyio.to_thread.run_sync(file.read, BLOCK_BYTES):
                yield block


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open the archive at `path`; raises RegistryError if it is not a whole OCI archive."""
    with ExitStack() as stack:
        with _archive_errors(path, "it is not a whole OCI archive: "):
            layout = stack.enter_context(open_layout(path))
            index = {entry["digest"]: str(entry["mediaType"]) for entry in layout.read_index()}
        yield Archive(path, layout, index)


def not_approved_error(path: Path, why: str) -> RegistryError:
    """The error for an archive that is not the one that was judged."""
    return RegistryError(
        f"the archive is not what was approved: {path}: {why}",
        likely_cause="something wrote the file after it was judged",
        next_step="give each run its own --report-dir, then run again",
    )


@contextmanager
def _archive_errors(path: Path, before: str = "") -> Iterator[None]:
    try:
        yield
    except MALFORMED_ERRORS as error:
        raise not_approved_error(path, f"{before}{error}") from error


class Writer:
    """Writes an OCI archive, blob by blob; `finish` names the image and ends the file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._write_small("oci-layout", values.canonical_json({"imageLayoutVersion": "1.0.0"}))

    async def add_blob(self, blob: Descriptor, chunks: AsyncGenerator[bytes, None]) -> None:
        """Write one blob; if that fails, the file is as it was before."""
        start = self._file.tell()
        try:
            self._write_header(blob_name(blob.digest), blob.size_bytes)
            async with aclosing(chunks):
                async for chunk in chunks:
                    await anyio.to_thread.run_sync(self._file.write, chunk)
            self._write_padding(blob.size_bytes)
        except BaseException:
            self._file.seek(start)
            self._file.truncate()
            raise

    def finish(self, manifest: Manifest) -> None:
        """Name the image in the layout's index, and end the tar file."""
        named = Descriptor(manifest.digest, manifest.media_type, len(manifest.content))
        index = {"schemaVersion": 2, "mediaType": media_types.IMAGE_INDEX, "manifests": [named.to_json()]}
        self._write_small(INDEX, values.canonical_json(index))
        if config := manifest.config:
            # Trivy, and `docker load` before 25, read it in place of index.json.
            layers = [blob_name(layer.digest) for layer in manifest.layers]
            self._write_small(
                "manifest.json", values.canonical_json([{"Config": blob_name(config.digest), "Layers": layers}])
            )
        self._file.write(bytes(2 * tarfile.BLOCKSIZE))

    def _write_small(self, name: str, content: bytes) -> None:
        self._write_header(name, len(content))
        self._file.write(content)
        self._write_padding(len(content))

    def _write_header(self, name: str, size_bytes: int) -> None:
        member = tarfile.TarInfo(name)
        member.size = size_bytes
        self._file.write(member.tobuf())

    def _write_padding(self, size_bytes: int) -> None:
        self._file.write(bytes(-size_bytes % tarfile.BLOCKSIZE))
